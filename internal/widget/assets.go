package widget

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
	"net/http"
	"path"
	"strings"
)

//go:embed web
var webFS embed.FS

// script is the order in which the parts of the frame's script are joined. There is no build step: what is served is
// what lies in web/, inside one function, in strict mode.
var script = []string{"text.js", "rich.js", "line.js", "frame.js"}

// asset is one file as it is sent.
type asset struct {
	name   string // with its hash
	kind   string
	plain  []byte
	packed []byte // gzip
}

// assets are the widget's files.
type assets struct {
	loader, script, style asset
	own                   asset // loaded when the visitor asks for what is kept of him
	frame, demo           *template.Template
}

func loadAssets() (*assets, error) {
	web, err := fs.Sub(webFS, "web")
	if err != nil {
		return nil, fmt.Errorf("open assets: %w", err)
	}
	var a assets
	var joined bytes.Buffer
	joined.WriteString("(() => {\n'use strict';\n")
	for _, name := range script {
		part, err := fs.ReadFile(web, name)
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		joined.Write(part)
	}
	joined.WriteString("})();\n")
	if a.script, err = newAsset("frame.js", joined.Bytes()); err != nil {
		return nil, err
	}
	for name, to := range map[string]*asset{"loader.js": &a.loader, "frame.css": &a.style, "your-data.js": &a.own} {
		b, err := fs.ReadFile(web, name)
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		if *to, err = newAsset(name, b); err != nil {
			return nil, err
		}
	}
	if a.frame, err = template.ParseFS(web, "frame.html"); err != nil {
		return nil, fmt.Errorf("parse frame: %w", err)
	}
	if a.demo, err = template.ParseFS(web, "demo.html"); err != nil {
		return nil, fmt.Errorf("parse demo: %w", err)
	}
	return &a, nil
}

func newAsset(name string, plain []byte) (asset, error) {
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return asset{}, fmt.Errorf("pack %s: %w", name, err)
	}
	if _, err := z.Write(plain); err != nil {
		return asset{}, fmt.Errorf("pack %s: %w", name, err)
	}
	if err := z.Close(); err != nil {
		return asset{}, fmt.Errorf("pack %s: %w", name, err)
	}
	sum := sha256.Sum256(plain)
	ext := path.Ext(name)
	return asset{
		name: strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext,
		kind: mime.TypeByExtension(ext), plain: plain, packed: packed.Bytes(),
	}, nil
}

// serve sends the asset with the given Cache-Control.
func (a asset) serve(w http.ResponseWriter, r *http.Request, cache string) {
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", cache)
	h.Set("ETag", `"`+a.name+`"`)
	h.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == `"`+a.name+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b := a.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		b = a.packed
	}
	h.Set("Content-Length", fmt.Sprint(len(b)))
	_, _ = w.Write(b) // whoever asked may have gone
}
