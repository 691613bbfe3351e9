package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// ManifestFile is the name of the file that makes an archive of what lies beside it. It is written last.
const ManifestFile = "manifest"

// kind is the first line of a manifest. It changes with the form of what an archive holds.
const kind = "counterfoil archive v1"

// Manifest says what an archive holds. It is a note (C2SP signed-note) of the key that signs the organisation's log.
type Manifest struct {
	Archive      uuid.UUID `json:"archive"`
	Name         string    `json:"name"`
	Organisation uuid.UUID `json:"organisation"`
	Log          string    `json:"log"`
	Number       int       `json:"number"` // 1 is the first archive of the organisation
	Previous     *Previous `json:"previous"`
	Recipient    string    `json:"recipient"`
	Began        time.Time `json:"began"`
	Until        time.Time `json:"until"` // as long as it was to be kept when it was made

	Conversations int64     `json:"conversations"`
	Events        int64     `json:"events"`
	People        int64     `json:"people"`
	First         time.Time `json:"first"` // when the first of the conversations ended
	Last          time.Time `json:"last"`
	Files         []File    `json:"files"`

	Checkpoint string `json:"checkpoint"` // of the log, when the archive was made
}

// Previous is the archive before.
type Previous struct {
	Number   int       `json:"number"`
	Name     string    `json:"name"`
	Manifest string    `json:"manifest"` // SHA-256
	Until    time.Time `json:"until"`
}

// File is one of an archive.
type File struct {
	Name          string    `json:"name"`
	SHA256        string    `json:"sha256"`
	Bytes         int64     `json:"bytes"`
	Conversations int64     `json:"conversations"`
	Events        int64     `json:"events"`
	People        int64     `json:"people"`
	First         time.Time `json:"first,omitzero"`
	Last          time.Time `json:"last,omitzero"`
}

// sign writes a manifest and signs it.
func (m Manifest) sign(s *audit.Signer) ([]byte, error) {
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return s.SignStatement(kind, string(text))
}

// errManifest is what a manifest ends in that cannot be read though it is signed.
var errManifest = errors.New("the manifest is not in a form that this program knows")

// openManifest reads a manifest that one of these keys signed, of the log that the key is named after.
func openManifest(signed []byte, vkeys []string) (Manifest, error) {
	text, name, err := audit.OpenStatement(signed, kind, vkeys...)
	if err != nil {
		return Manifest{}, err
	}
	m, err := parseManifest(text)
	if err == nil && m.Log != name {
		err = fmt.Errorf("%w: it is of the log %s, and signed as that of %s", errManifest, m.Log, name)
	}
	return m, err
}

// unsigned reads a manifest without asking who signed it.
func unsigned(signed []byte) (Manifest, error) {
	text, found := strings.CutPrefix(string(signed), kind+"\n")
	at := strings.LastIndex(text, "\n\n")
	if !found || at < 0 {
		return Manifest{}, errManifest
	}
	return parseManifest(text[:at+1])
}

func parseManifest(text string) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return m, errManifest
	}
	seen := make(map[string]bool)
	for _, f := range m.Files {
		if !partName.MatchString(f.Name) || seen[f.Name] {
			return m, errManifest
		}
		seen[f.Name] = true
	}
	return m, nil
}
