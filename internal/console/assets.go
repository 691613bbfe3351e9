package console

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"path"
	"strings"
)

//go:embed web
var webFS embed.FS

// asset is one file under a name that changes with it.
type asset struct {
	name, kind string
	content    []byte
}

type assets struct {
	style, script asset
	pages         *template.Template
}

func loadAssets() (*assets, error) {
	var a assets
	for name, to := range map[string]*asset{"console.css": &a.style, "set-up.js": &a.script} {
		b, err := fs.ReadFile(webFS, "web/"+name)
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		sum := sha256.Sum256(b)
		ext := path.Ext(name)
		*to = asset{strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext, mime.TypeByExtension(ext), b}
	}
	var err error
	if a.pages, err = template.ParseFS(webFS, "web/*.html"); err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return &a, nil
}
