package publish_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/publish"

	"golang.org/x/mod/sumdb/note"
)

// witness is a witness as C2SP tlog-witness has it: it knows the keys of logs, remembers the newest checkpoint of each, and
// cosigns what continues it.
type witness struct {
	*httptest.Server
	private ed25519.PrivateKey

	mu      sync.Mutex
	vkeys   map[string]string // by origin
	seen    map[string]audit.Checkpoint
	clock   func() time.Time
	asked   int
	instead func(w http.ResponseWriter) // answers in its place, if not nil
}

const witnessName = "witness.example/w1"

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32)), vkeys: make(map[string]string), seen: make(map[string]audit.Checkpoint), clock: time.Now}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *witness) key() []byte { return append([]byte{4}, w.private.Public().(ed25519.PublicKey)...) }

func (w *witness) hash() []byte {
	h := sha256.Sum256(append([]byte(witnessName+"\n"), w.key()...))
	return h[:4]
}

func (w *witness) vkey() string {
	return fmt.Sprintf("%s+%x+%s", witnessName, w.hash(), base64.StdEncoding.EncodeToString(w.key()))
}

// knows makes w accept the log of a place.
func (w *witness) knows(t *testing.T, p *place) {
	t.Helper()
	vkey, err := p.log.VerifierKey(p.origin)
	must(t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vkeys[p.origin] = vkey
}

func (w *witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.instead != nil {
		w.instead(out)
		return
	}
	body, err := io.ReadAll(r.Body)
	head, signed, found := strings.Cut(string(body), "\n\n")
	lines := strings.Split(head, "\n")
	digits, isOld := strings.CutPrefix(lines[0], "old ")
	old, numErr := strconv.ParseUint(digits, 10, 63)
	if err != nil || !found || !isOld || numErr != nil || r.Method != http.MethodPost || r.URL.Path != "/add-checkpoint" {
		http.Error(out, "malformed", http.StatusBadRequest)
		return
	}
	origin, _, _ := strings.Cut(signed, "\n")
	vkey, known := w.vkeys[origin]
	if !known {
		http.Error(out, "unknown log", http.StatusNotFound)
		return
	}
	c, err := audit.OpenCheckpoint([]byte(signed), verifier(vkey))
	if err != nil {
		http.Error(out, "not signed", http.StatusForbidden)
		return
	}
	last, any := w.seen[origin]
	if !any {
		last = audit.Checkpoint{Root: audit.NewTree().Root()}
	}
	switch {
	case old > c.Size:
		http.Error(out, "old is larger", http.StatusBadRequest)
		return
	case old != last.Size:
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(http.StatusConflict)
		fmt.Fprintf(out, "%d\n", last.Size)
		return
	case old == c.Size && last.Root != c.Root:
		http.Error(out, "another root", http.StatusConflict)
		return
	}
	var proof []audit.Hash
	for _, line := range lines[1:] {
		b, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(b) != 32 {
			http.Error(out, "no hash", http.StatusBadRequest)
			return
		}
		proof = append(proof, audit.Hash(b))
	}
	if audit.VerifyConsistency(old, last.Root, c.Size, c.Root, proof) != nil {
		http.Error(out, "inconsistent", http.StatusUnprocessableEntity)
		return
	}
	w.seen[origin] = c
	fmt.Fprint(out, w.line(signed, uint64(w.clock().Unix())))
}

// line is the cosignature of a checkpoint.
func (w *witness) line(signed string, at uint64) string {
	text, _, _ := strings.Cut(signed, "\n\n")
	full := binary.BigEndian.AppendUint64(w.hash(), at)
	full = append(full, ed25519.Sign(w.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))...)
	return "— " + witnessName + " " + base64.StdEncoding.EncodeToString(full) + "\n"
}

// asking is a node that asks w.
func (p *place) asking(t *testing.T, w *witness, require bool) *publish.Publisher {
	t.Helper()
	return p.publisher(func(c *publish.Config) {
		var err error
		c.Witness, err = publish.NewWitness(w.URL+"/", w.vkey(), http.DefaultTransport, c.Now)
		must(t, err)
		c.Require = require
	})
}

// cosigned gives the size of the newest cosigned checkpoint that lies there, after checking it.
func (p *place) cosigned(t *testing.T, w *witness) uint64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.root, p.origin, "cosigned"))
	must(t, err)
	key, err := audit.ParseWitnessKey(w.vkey())
	must(t, err)
	_, _, err = key.Cosigned(b, nil)
	must(t, err)
	vkey, err := p.log.VerifierKey(p.origin)
	must(t, err)
	c, err := audit.OpenCheckpoint(b, verifier(vkey))
	must(t, err)
	return c.Size
}

func TestEveryPublishedCheckpointIsCosigned(t *testing.T) {
	p, w := newPlace(t), newWitness(t)
	w.knows(t, p)
	n := p.asking(t, w, true)
	for i := range 4 {
		p.grow(t, 100)
		must(t, n.Publish(t.Context()))
		p.published(t)
		if size := p.cosigned(t, w); size != uint64(100*(i+1)) {
			t.Fatalf("the checkpoint of %d is cosigned", size)
		}
		must(t, n.Standing(t.Context(), p.organisation, true))
	}
	if w.asked != 4 {
		t.Errorf("the witness was asked %d times, not 4", w.asked)
	}
	newest, err := os.ReadFile(filepath.Join(p.root, p.origin, "checkpoint"))
	must(t, err)
	if !strings.Contains(string(newest), "\n— "+witnessName+" ") {
		t.Errorf("the checkpoint bears no cosignature:\n%s", newest)
	}
	// Another node with a directory of its own finds out what the witness remembers.
	p.root = t.TempDir()
	must(t, p.asking(t, w, true).Publish(t.Context()))
	if size := p.cosigned(t, w); size != 400 {
		t.Errorf("the other node has the checkpoint of %d cosigned", size)
	}
}

func TestWithoutAWitnessNothingIsReleasedIfOneIsRequired(t *testing.T) {
	p, w := newPlace(t), newWitness(t)
	w.knows(t, p)
	w.clock = func() time.Time { return time.Now().Add(p.clock) }
	p.grow(t, 3)
	n, lenient := p.asking(t, w, true), p.asking(t, w, false)
	if err := n.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrUnwitnessed) {
		t.Errorf("before a witness was asked: %v", err)
	}
	must(t, n.Publish(t.Context()))
	must(t, n.Standing(t.Context(), p.organisation, true))

	w.instead = func(out http.ResponseWriter) { http.Error(out, "busy", http.StatusServiceUnavailable) }
	p.clock = 9 * time.Minute
	must(t, n.Publish(t.Context()))
	must(t, n.Standing(t.Context(), p.organisation, true)) // still young enough
	p.clock = 11 * time.Minute
	p.grow(t, 3)
	must(t, n.Publish(t.Context()))
	if err := n.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrUnwitnessed) {
		t.Errorf("eleven minutes after the last: %v", err)
	}
	must(t, n.Standing(t.Context(), p.organisation, false)) // what releases nothing can be recorded
	must(t, lenient.Standing(t.Context(), p.organisation, true))
	if r := p.published(t); r.Records != 6 {
		t.Errorf("%d records are published without the witness", r.Records)
	}
	if size := p.cosigned(t, w); size != 3 {
		t.Errorf("the checkpoint of %d is kept as cosigned", size)
	}
	if !strings.Contains(p.said.String(), "a checkpoint is not cosigned") {
		t.Errorf("nobody was told: %s", &p.said)
	}

	w.instead = nil
	p.clock += 2 * time.Minute // longer than any pause
	must(t, n.Publish(t.Context()))
	must(t, n.Standing(t.Context(), p.organisation, true))
	// A node that starts finds the cosigned checkpoint on disk.
	w.Close()
	must(t, p.asking(t, w, true).Standing(t.Context(), p.organisation, true))
	// And a silent log is cosigned again before its cosignature is too old.
	p.clock += 6 * time.Minute
	must(t, n.Publish(t.Context()))
	if err := n.Standing(t.Context(), p.organisation, true); err != nil {
		t.Errorf("%v", err)
	}
}

func TestASilentLogIsCosignedAgain(t *testing.T) {
	p, w := newPlace(t), newWitness(t)
	w.knows(t, p)
	w.clock = func() time.Time { return time.Now().Add(p.clock) }
	n := p.asking(t, w, true)
	for range 5 {
		p.clock += 6 * time.Minute
		must(t, n.Publish(t.Context()))
		must(t, n.Standing(t.Context(), p.organisation, true))
	}
	if w.asked != 5 {
		t.Errorf("asked %d times", w.asked)
	}
}

func TestWhatAWitnessRemembersFreezesALogThatDoesNotContinueIt(t *testing.T) {
	for name, c := range map[string]struct {
		more int // records after the log was put back
		want string
	}{
		"of fewer records":     {0, "it has seen 300 records, there are 200"},
		"of as many":           {100, "it has seen another root of 300 records"},
		"of another beginning": {200, "the 300 records it has seen are not our first 300"},
	} {
		t.Run(name, func(t *testing.T) {
			p, w := newPlace(t), newWitness(t)
			w.knows(t, p)
			p.grow(t, 200)
			restore := p.backup(t)
			p.grow(t, 100)
			must(t, p.asking(t, w, false).Publish(t.Context()))
			restore()
			p.root = t.TempDir() // the directory is lost as well
			for range c.more / 100 {
				p.log = anew(t, p)
				p.grow(t, 100)
			}
			n := p.asking(t, w, false)
			must(t, n.Publish(t.Context()))
			if err := n.Standing(t.Context(), p.organisation, false); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(filepath.Join(p.root, p.origin, "checkpoint")); err == nil {
				t.Error("it is published")
			}
		})
	}
}

func TestWhatAWitnessAnswersIsChecked(t *testing.T) {
	p, w := newPlace(t), newWitness(t)
	w.knows(t, p)
	p.grow(t, 3)
	head, err := p.log.Head(t.Context(), p.organisation)
	must(t, err)
	good := w.line(string(head.Checkpoint), uint64(time.Now().Unix()))
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"nothing":                      {200, "", "not cosigned by this witness"},
		"a page":                       {200, "<html>", "not cosigned by this witness"},
		"a cosignature of another":     {200, strings.Replace(good, "w1", "w2", 1), "not cosigned by this witness"},
		"a broken cosignature":         {200, good[:80] + "AAAA" + good[84:], "not cosigned by this witness"},
		"a time that lies ahead":       {200, w.line(string(head.Checkpoint), uint64(time.Now().Add(time.Hour).Unix())), "lies in the future"},
		"more than can be one":         {200, strings.Repeat("x", 1<<20), "not cosigned by this witness"},
		"that it does not know us":     {404, "", "does not know this log"},
		"that it does not know us yet": {403, "", "does not know this log"},
		"an error":                     {500, "", "status 500"},
		"another address":              {302, "", "does not redirect"},
		"a size that it then refuses":  {409, "0\n", "refuses the size that it asks for"},
		"no size":                      {409, "many\n", "refuses the size that it asks for"},
	} {
		t.Run(name, func(t *testing.T) {
			w.mu.Lock()
			w.instead = func(out http.ResponseWriter) {
				out.Header().Set("Location", w.URL+"/elsewhere")
				out.WriteHeader(c.status)
				fmt.Fprint(out, c.body)
			}
			w.mu.Unlock()
			p.said.Reset()
			n := p.asking(t, w, true)
			must(t, n.Publish(t.Context()))
			if !strings.Contains(p.said.String(), c.want) {
				t.Errorf("said %s", &p.said)
			}
			if err := n.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrUnwitnessed) {
				t.Errorf("standing: %v", err)
			}
			p.published(t)
		})
	}
}

func verifier(vkey string) note.Verifier {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		panic(err)
	}
	return v
}

// Two nodes share a directory. What one has had cosigned stays cosigned when the other, to whom the witness does not
// answer, comes by; and it counts for the other as well.
func TestACosignatureServesEveryNodeOfADirectory(t *testing.T) {
	p, w, silent := newPlace(t), newWitness(t), newWitness(t)
	w.knows(t, p)
	silent.instead = func(out http.ResponseWriter) { http.Error(out, "busy", http.StatusServiceUnavailable) }
	first, second := p.asking(t, w, true), p.asking(t, silent, true)
	p.grow(t, 3)
	must(t, second.Publish(t.Context()))
	if err := second.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrUnwitnessed) {
		t.Fatalf("%v", err)
	}
	must(t, first.Publish(t.Context()))
	before, err := os.ReadFile(filepath.Join(p.root, p.origin, "checkpoint"))
	must(t, err)
	must(t, second.Publish(t.Context()))
	if after, err := os.ReadFile(filepath.Join(p.root, p.origin, "checkpoint")); err != nil || !bytes.Equal(before, after) || !bytes.Contains(after, []byte(witnessName)) {
		t.Errorf("%v\n%s", err, after)
	}
	must(t, second.Standing(t.Context(), p.organisation, true))
	// Neither waits for the other, nor forgets.
	unlock := hold(t, filepath.Join(p.root, p.origin))
	p.grow(t, 1)
	must(t, second.Publish(t.Context()))
	must(t, second.Standing(t.Context(), p.organisation, true))
	unlock()
}

// hold takes the lock of a directory, as another process would.
func hold(t *testing.T, dir string) func() {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR, 0)
	must(t, err)
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	return func() { must(t, f.Close()) }
}
