package subject

import (
	"html/template"
	"io"
	"sync"
)

// LinkPage is what a person sees who follows the link to his file: a button, or that there is nothing any more.
type LinkPage struct {
	Language     string
	Gone, Trying bool
}

// T gives a text in the language of the page.
func (p LinkPage) T(name string) string { return Word(p.Language, name) }

var linkPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("link").Parse(`<!doctype html>
<html lang="{{.Language}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{{.T "linkTitle"}}</title>
<style>
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto 0;padding:1.5rem}
h1{font-size:1.75rem;line-height:1.2}
button{font:inherit;font-weight:600;min-height:2.75rem;padding:0 1.25rem;border:1px solid transparent;border-radius:8px;color:light-dark(#fff,#05201f);background:light-dark(#0d5c5a,#7cc9c2);cursor:pointer}
button:focus-visible{outline:2px solid;outline-offset:2px}
</style>
</head>
<body>
<main>
<h1>{{.T "linkTitle"}}</h1>
{{- if .Gone}}
<p>{{.T "linkGone"}}</p>
{{- else if .Trying}}
<p>{{.T "linkTrying"}}</p>
{{- else}}
<p>{{.T "linkLead"}}</p>
<form method="post"><button>{{.T "linkGet"}}</button></form>
{{- end}}
</main>
</body>
</html>
`))
})

// Write writes the page.
func (p LinkPage) Write(w io.Writer) error { return linkPage().Execute(w, p) }
