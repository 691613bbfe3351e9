package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"path"
	"slices"
	"strings"
)

//go:embed web
var webFS embed.FS

// asset is one file under a name that changes with it.
type asset struct {
	name, kind string
	content    []byte
	packed     []byte // by gzip
}

type assets struct {
	style   asset
	setUp   asset   // what the set-up page runs
	scripts []asset // what the pages of whoever is signed in run, in this order
	charts  []asset // what pages with a chart that one can zoom need more
	pages   *template.Template
}

// all are the assets that are served.
func (a *assets) all() []asset { return slices.Concat([]asset{a.style, a.setUp}, a.scripts, a.charts) }

func loadAsset(name string) (asset, error) {
	b, err := fs.ReadFile(webFS, "web/"+name)
	if err != nil {
		return asset{}, fmt.Errorf("read asset: %w", err)
	}
	sum := sha256.Sum256(b)
	ext := path.Ext(name)
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return asset{}, fmt.Errorf("pack asset: %w", err)
	}
	if _, err := z.Write(b); err != nil {
		return asset{}, fmt.Errorf("pack asset: %w", err)
	}
	if err := z.Close(); err != nil {
		return asset{}, fmt.Errorf("pack asset: %w", err)
	}
	return asset{strings.TrimSuffix(path.Base(name), ext) + "." + hex.EncodeToString(sum[:8]) + ext, mime.TypeByExtension(ext), b, packed.Bytes()}, nil
}

func loadAssets() (*assets, error) {
	var a assets
	var err error
	if a.style, err = loadAsset("console.css"); err != nil {
		return nil, err
	}
	if a.setUp, err = loadAsset("set-up.js"); err != nil {
		return nil, err
	}
	for _, name := range []string{"vendor/htmx.min.js", "vendor/hx-csp.min.js", "vendor/hx-sse.min.js", "console.js", "passkey.js"} {
		script, err := loadAsset(name)
		if err != nil {
			return nil, err
		}
		a.scripts = append(a.scripts, script)
	}
	for _, name := range []string{"vendor/uplot.min.css", "vendor/uplot.min.js", "chart.js"} {
		chart, err := loadAsset(name)
		if err != nil {
			return nil, err
		}
		a.charts = append(a.charts, chart)
	}
	if a.pages, err = template.New("").Funcs(template.FuncMap{"link": link, "page": page}).ParseFS(webFS, "web/*.html"); err != nil {
		return nil, fmt.Errorf("parse pages: %w", err)
	}
	return &a, nil
}
