package grant

type Grant struct{}

func Issue() Grant { return Grant{} }

type Sealing struct{}

func ForSealing() Sealing { return Sealing{} }
