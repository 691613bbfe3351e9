package euii

import "counterfoil/internal/access/internal/grant"

type Inbound struct{ text func() string }

type Cleared[A any] struct{ text func() string }

func Clear[A any](g grant.Grant, text string) Cleared[A] { return Cleared[A]{} }

func Reveal[A any](c Cleared[A]) string { return c.text() }

func ForSealing(s grant.Sealing, in Inbound) (string, bool) { return "", false }
