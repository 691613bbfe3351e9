package relay

import (
	"counterfoil/internal/access/euii"
	"fmt"
)

func look(c euii.Cleared[Visitor]) { fmt.Println(euii.Reveal(c)) }
