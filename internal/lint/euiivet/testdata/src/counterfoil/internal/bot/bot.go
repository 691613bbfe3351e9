package bot

import "counterfoil/internal/access/euii"

type Agent struct{}

type card struct{ Name string }

func Card(c euii.Cleared[Agent]) card { return card{Name: euii.Reveal(c)} }
