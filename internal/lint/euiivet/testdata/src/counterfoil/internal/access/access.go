package access

import (
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
)

type Visitor struct{}

func Read() euii.Cleared[Visitor] { return euii.Clear[Visitor](grant.Issue(), "text") }

func seal() any { return grant.ForSealing() } // want `grant.ForSealing may be used only in counterfoil/internal/access/keyring: what comes in`

func peek(c euii.Cleared[Visitor]) string { return euii.Reveal(c) } // want `euii.Reveal may be used only in counterfoil/internal/archive and counterfoil/internal/bot and counterfoil/internal/console and counterfoil/internal/widget: plain text`
