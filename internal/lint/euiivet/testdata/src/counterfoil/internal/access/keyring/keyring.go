package keyring

import (
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
)

func Seal(in euii.Inbound) string {
	text, _ := euii.ForSealing(grant.ForSealing(), in)
	return text
}

func Open(g grant.Grant) any {
	g = grant.Issue()                // want `grant.Issue may be used only in counterfoil/internal/access: a grant`
	return euii.Clear[int](g, "ada") // want `euii.Clear may be used only in counterfoil/internal/access: a value`
}
