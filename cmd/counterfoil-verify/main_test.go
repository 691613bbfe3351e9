package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
)

const origin = "chat.example/audit/org1"

// witnessKey is of the seed of 32 bytes 8.
const witnessKey = "witness.example/w1+fea3b187+BBOY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK"

func signer(t *testing.T, seed byte) *audit.Signer {
	t.Helper()
	key, err := audit.NewKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s, err := key.For(origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// export makes a log of n records in dir. Logs of another salt have other records.
func export(t *testing.T, dir string, s *audit.Signer, n int, salt byte) {
	t.Helper()
	tree := audit.NewTree()
	var entries [][]byte
	for i := range n {
		b, err := audit.Entry{
			Seq: uint64(i), Time: time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC), Organisation: "org1",
			Kind: audit.Disclosure, Action: "chat.participant", Actor: audit.Party{Kind: "visitor", Ref: "v1"},
			Decision: audit.DecisionAllow, Nonce: [16]byte{salt, 1},
		}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, b)
		tree.Append(audit.LeafHash(b), nil)
	}
	signed, err := s.Sign(tree.Size(), tree.Root())
	if err != nil {
		t.Fatal(err)
	}
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	err = w.Write(t.Context(), signed, func(yield func([]byte, error) bool) {
		for _, e := range entries[w.Next():] {
			if !yield(e, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRun(t *testing.T) {
	good, older, forked, changed, empty, pruned := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	s := signer(t, 1)
	export(t, good, s, 300, 0)
	export(t, older, s, 200, 0)
	export(t, forked, s, 400, 9)
	export(t, changed, s, 300, 0)
	export(t, empty, s, 0, 0)
	export(t, pruned, s, 300, 0)
	if err := os.Remove(filepath.Join(pruned, "tile/entries/000")); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(changed, "tile/entries/000")
	data, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, bytes.Replace(data, []byte(`"visitor","ref":"v1"`), []byte(`"visitor","ref":"v2"`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	keyFile, seen := filepath.Join(good, "key.pub"), filepath.Join(good, "checkpoint")
	for name, c := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string // what must be in there
	}{
		"a good log with the key beside it":     {[]string{good}, 0, "agrees with itself", ""},
		"a good log with the key of a file":     {[]string{good, "--key", keyFile}, 0, "given by you", ""},
		"a good log with the key itself":        {[]string{"--key=" + s.VerifierKey(), good}, 0, "The log is good", ""},
		"a good log that continues another":     {[]string{good, "--since", filepath.Join(older, "checkpoint")}, 0, "an earlier checkpoint of 200 records", ""},
		"an empty log":                          {[]string{empty, "-json"}, 0, `"good": true`, ""},
		"counts":                                {[]string{good}, 0, "300 chat.participant", ""},
		"what was checked":                      {[]string{good}, 0, "every tile, and the root, recomputed from the records", ""},
		"a key and the file it came from":       {[]string{good, "--key", keyFile}, 0, "in the file " + keyFile, ""},
		"a pruned log":                          {[]string{pruned, "--pruned-below", "256"}, 0, "Records 0 to 255 were pruned", ""},
		"a pruned log without its minimum":      {[]string{pruned}, 1, "The file with records 0 to 255 is not there", ""},
		"a witness that has not seen it":        {[]string{good, "--witness", witnessKey}, 1, "witness.example/w1 has not cosigned it", ""},
		"a witness that is none":                {[]string{good, "--witness", keyFile}, 3, "", "neither a readable file nor the key of a witness"},
		"a minimum beyond the log":              {[]string{good, "--pruned-below", "301"}, 3, "", "cannot have been pruned below 301"},
		"a minimum that is no number":           {[]string{good, "--pruned-below", "many"}, 2, "", "pruned-below"},
		"a changed record":                      {[]string{changed}, 1, "Record 0 is not the one that was signed", ""},
		"a changed record in JSON":              {[]string{changed, "--json"}, 1, `"kind": "changed"`, ""},
		"a log that is older than was seen":     {[]string{older, "--since", seen}, 1, "rolled back or cut", ""},
		"a log of another history":              {[]string{forked, "--since", seen}, 1, "two histories", ""},
		"a key that did not sign":               {[]string{good, "--key", signer(t, 2).VerifierKey()}, 1, "forged-signature", ""},
		"help":                                  {[]string{"--help"}, 0, "Examples:", ""},
		"no directory":                          {nil, 2, "", "expected one directory or certificate"},
		"two directories":                       {[]string{good, good}, 2, "", "expected one directory"},
		"an unknown option":                     {[]string{good, "--deep"}, 2, "", "--help"},
		"a directory that is not there":         {[]string{filepath.Join(good, "none")}, 3, "", "none"},
		"a file for a directory":                {[]string{seen}, 3, "", "neither a directory nor a certificate"},
		"a directory that is no export":         {[]string{t.TempDir(), "--key", keyFile}, 3, "", "this is no export"},
		"a key file that is not there":          {[]string{good, "--key", "none"}, 3, "", "neither a readable file nor a verifier key"},
		"an earlier checkpoint that is missing": {[]string{good, "--since", "none"}, 3, "", "--since"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(c.args, &stdout, &stderr)
			if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("exit %d, want %d\n%s\n%s", code, c.code, &stdout, &stderr)
			}
			if c.stdout == "" && stdout.Len() > 0 || c.stderr == "" && stderr.Len() > 0 {
				t.Errorf("wrote to the wrong place\n%s\n%s", &stdout, &stderr)
			}
		})
	}
}

func TestACertificateIsCheckedWithoutItsLog(t *testing.T) {
	dir := t.TempDir()
	s := signer(t, 1)
	export(t, dir, s, 300, 0)
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	under, err := audit.OpenCheckpoint(signed, s.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := audit.InclusionProof(17, 300, audit.NewHashReader(under, audit.DirTiles(os.DirFS(dir))))
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	for body, err := range audit.ExportEntries(os.DirFS(dir), 17, 19) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, bytes.Clone(body))
	}
	file := func(record []byte, p audit.Proof, key string) string {
		t.Helper()
		b, err := audit.MarshalCertificate(record, p, key)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "erasure.json")
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	proof := audit.Proof{Index: 17, Hashes: hashes, Checkpoint: signed}
	good := file(records[0], proof, s.VerifierKey())
	elsewhere := proof
	elsewhere.Index = 18
	for name, c := range map[string]struct {
		args   []string
		code   int
		stdout string
	}{
		"a good one with the key in it":  {[]string{good}, 0, "agrees with itself"},
		"a good one with a key of yours": {[]string{good, "--key", filepath.Join(dir, "key.pub")}, 0, "record 17 is the one that was signed"},
		"a good one in JSON":             {[]string{good, "--json"}, 0, `"action": "chat.participant"`},
		"another key":                    {[]string{good, "--key", signer(t, 2).VerifierKey()}, 1, "NOT GOOD"},
		"another record":                 {[]string{file(records[1], proof, s.VerifierKey())}, 1, "the proof does not hold"},
		"a changed record":               {[]string{file(bytes.Replace(records[0], []byte(`"v1"`), []byte(`"v2"`), 1), proof, s.VerifierKey())}, 1, "the proof does not hold"},
		"another place":                  {[]string{file(records[0], elsewhere, s.VerifierKey())}, 1, "the proof does not hold"},
		"no checkpoint":                  {[]string{file(records[0], audit.Proof{Index: 17, Hashes: hashes}, s.VerifierKey())}, 1, "NOT GOOD"},
		"no key":                         {[]string{file(records[0], proof, "")}, 1, "the key is none"},
		"what is for a log":              {[]string{good, "--since", filepath.Join(dir, "checkpoint")}, 2, ""},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(c.args, &stdout, &stderr); code != c.code || !strings.Contains(stdout.String(), c.stdout) {
			t.Errorf("%s: exit %d, want %d\n%s\n%s", name, code, c.code, &stdout, &stderr)
		}
	}
}

func FuzzCertificate(f *testing.F) {
	key, err := audit.GenerateSigner(origin)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"record":"e30=","proof":"c2sp.org/tlog-proof@v1\nindex 0\n\nx\n1\n","key":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := audit.ReadCertificate(bytes.NewReader(b))
		if err != nil {
			return
		}
		if _, _, err := c.Verify(key.VerifierKey()); err == nil {
			t.Errorf("%q is certified", b)
		}
	})
}

func TestJSONSaysWhatWasFound(t *testing.T) {
	dir := t.TempDir()
	export(t, dir, signer(t, 1), 300, 0)
	var stdout, stderr bytes.Buffer
	if code := run([]string{dir, "--json"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	var got struct {
		Good          bool
		Origin        string
		Size, Records uint64
		Since         *uint64
		Kinds         map[string]uint64
		KeyFromExport bool `json:"key_from_export"`
		First         *time.Time
		Checked       []string
	}
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Good || got.Origin != origin || got.Size != 300 || got.Records != 300 || got.Kinds["disclosure"] != 300 || !got.KeyFromExport ||
		len(got.Checked) != 3 || got.First == nil || !got.First.Equal(time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)) || got.Since != nil {
		t.Errorf("%+v", got)
	}
}

// TestDependencies holds what an auditor has to read before trusting the program.
func TestDependencies(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := strings.Fields(string(out))
	if len(listed) == 0 {
		t.Fatal("nothing listed")
	}
	allowed := []string{"counterfoil/cmd/counterfoil-verify", "counterfoil/audit"}
	for _, path := range listed {
		ok := strings.HasPrefix(path, "golang.org/x/mod/sumdb/") || strings.HasPrefix(path, "github.com/transparency-dev/merkle")
		for _, a := range allowed {
			ok = ok || path == a
		}
		if !ok {
			t.Errorf("%s is needed and must not be", path)
		}
	}
	if len(listed) > 10 {
		t.Error(fmt.Sprint("more packages than an auditor reads in an hour: ", listed))
	}
}
