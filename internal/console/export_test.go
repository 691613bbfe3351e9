package console

var (
	Word    = word
	Explain = explain
)
