package console

import "counterfoil/audit"

// Explain explains a record whose people are all there.
func Explain(lang string, e audit.Entry) eventPage { return explain(lang, e, nil) }

// CEF escapes a text for the header and for a value.
func CEF(s string) (header, value string) { return cefHeader.Replace(s), cefValue.Replace(s) }

// Alone sets how many records somebody exports by himself.
func (s *Server) Alone(n int) { s.alone = n }
