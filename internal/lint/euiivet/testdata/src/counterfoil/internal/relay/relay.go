package relay

import "counterfoil/internal/access/euii"

type Visitor struct{}

func Name(c euii.Cleared[Visitor]) string {
	return euii.Reveal[Visitor](c) // want `euii.Reveal may be used only in`
}

// Handing the function on is using it.
var reveal = euii.Reveal[Visitor] // want `euii.Reveal may be used only in`

type other struct{}

func (other) Reveal() string { return "" }

func Fine() string { return other{}.Reveal() }
