package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Certificate is one record with all that is needed to check it without its log. It holds nothing that the proof does not cover but the key, which
// is only a hint: whoever can make a certificate up can make that up too.
type Certificate struct {
	Record []byte `json:"record"` // its exact bytes
	Proof  string `json:"proof"`  // a .tlog-proof file
	Key    string `json:"key"`    // verifier key of the log
}

// MarshalCertificate makes the file that certifies a record.
func MarshalCertificate(record []byte, p Proof, vkey string) ([]byte, error) {
	var proof bytes.Buffer
	if err := WriteProof(&proof, p); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(Certificate{Record: record, Proof: proof.String(), Key: vkey}, "", "  ")
	return append(b, '\n'), err
}

// maxCertificate bounds a certificate: a proof and the largest record, in base64, with room for line ends.
const maxCertificate = 2*maxProof + 4*MaxEntry

// ReadCertificate reads a certificate. It proves nothing until [Certificate.Verify] does.
func ReadCertificate(r io.Reader) (c Certificate, err error) {
	b, err := io.ReadAll(io.LimitReader(r, maxCertificate+1))
	switch {
	case err != nil:
		return c, fmt.Errorf("read certificate: %w", err)
	case len(b) > maxCertificate:
		return c, errors.New("read certificate: too large")
	}
	if err := json.Unmarshal(b, &c); err != nil || len(c.Record) == 0 || c.Proof == "" {
		return Certificate{}, errors.New("read certificate: not a record with its proof")
	}
	return c, nil
}

// Verify checks that the record is, byte for byte, one of the log whose verifier key this is, and gives what it says and the checkpoint it is under.
func (c Certificate) Verify(vkey string) (Entry, Checkpoint, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return Entry{}, Checkpoint{}, fmt.Errorf("verify certificate: the key is none: %w", err)
	}
	p, err := ParseProof([]byte(c.Proof))
	if err != nil {
		return Entry{}, Checkpoint{}, err
	}
	under, err := p.Verify(c.Record, verifier)
	if err != nil {
		return Entry{}, Checkpoint{}, err
	}
	e, err := ParseEntry(c.Record)
	if err == nil && e.Seq != p.Index {
		err = fmt.Errorf("verify certificate: record %d says that it is %d", p.Index, e.Seq)
	}
	return e, under, err
}

// Certified is what a certificate that was verified says.
type Certified struct {
	Entry         Entry
	Checkpoint    Checkpoint
	Key           string
	KeySource     string // in a few words; empty when the key came with the certificate
	KeyFromWithin bool
}

// WriteText writes in plain words what is certified and by which key.
func (c Certified) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-9s %s\n", name, value) }
	fmt.Fprintf(&b, "The certificate is good: record %d is the one that was signed, in its place.\n\n", c.Entry.Seq)
	line("log", c.Checkpoint.Origin)
	line("under", fmt.Sprintf("a checkpoint of %d records with the root %s", c.Checkpoint.Size, c.Checkpoint.Root))
	line("key", c.Key)
	if c.KeyFromWithin {
		line("", "taken from the certificate, so this shows only that it agrees with itself.")
		line("", "Give a key you had from elsewhere with --key to know whose log it is.")
	} else {
		line("", c.KeySource)
	}
	line("time", c.Entry.Time.Format(time.RFC3339Nano))
	line("act", c.Entry.Action)
	fmt.Fprintf(&b, "\nWhat the record says\n")
	for _, name := range slices.Sorted(maps.Keys(c.Entry.Facts)) {
		fmt.Fprintf(&b, "  %-24s %s\n", name, c.Entry.Facts[name])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the same for programs.
func (c Certified) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(map[string]any{
		"good": true, "origin": c.Checkpoint.Origin, "record": c.Entry.Seq, "size": c.Checkpoint.Size, "root": c.Checkpoint.Root.String(), "key": c.Key, "key_from_certificate": c.KeyFromWithin,
		"time": c.Entry.Time, "action": c.Entry.Action, "facts": c.Entry.Facts,
	})
}
