package console

var (
	Word    = word
	Explain = explain
)

// CEF escapes a text for the header and for a value.
func CEF(s string) (header, value string) { return cefHeader.Replace(s), cefValue.Replace(s) }
