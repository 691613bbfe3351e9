package widget

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"counterfoil/internal/web"
)

// maxBody is the largest request body in bytes: a message of 4 KiB, each byte written as a JSON escape of its own
// would be more, but no browser writes it so.
const maxBody = 16 << 10

// Reasons to refuse a body. None of them says what was in it.
var (
	errMediaType = errors.New("the body must be application/json in UTF-8")
	errTooLarge  = fmt.Errorf("the body is longer than %d bytes", maxBody)
	errShape     = errors.New("the body must be one JSON object whose values are texts")
	errField     = errors.New("the body has a field that is not known here, or one twice")
)

// fields are the members of a request body.
type fields map[string]string

// readFields reads a request's body.
func readFields(w http.ResponseWriter, r *http.Request, known ...string) (fields, error) {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset, ok := params["charset"]; err != nil || media != "application/json" || ok && !strings.EqualFold(charset, "utf-8") {
		return nil, errMediaType
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, errTooLarge
	case err != nil:
		return nil, errShape
	}
	return parseFields(b, known...)
}

// parseFields is stricter than encoding/json: every value is a text, so nothing nests; a field may come once, is spelt
// exactly so, and nothing may follow the object.
func parseFields(b []byte, known ...string) (fields, error) {
	if !utf8.Valid(b) {
		return nil, errShape
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errShape
	}
	f := fields{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errShape
		}
		key, ok := name.(string)
		if _, twice := f[key]; !ok || twice || !slices.Contains(known, key) {
			return nil, errField
		}
		value, err := d.Token()
		if f[key], ok = value.(string); err != nil || !ok {
			return nil, errShape
		}
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return nil, errShape
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errShape
	}
	return f, nil
}

func failBody(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errMediaType):
		web.Problem(w, http.StatusUnsupportedMediaType, "media-type", err.Error())
	case errors.Is(err, errTooLarge):
		web.Problem(w, http.StatusRequestEntityTooLarge, "too-large", err.Error())
	default:
		web.Problem(w, http.StatusBadRequest, "malformed", err.Error())
	}
}
