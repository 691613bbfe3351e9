package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// pair gives a key in the two forms in which openssl writes it.
func pair(t testing.TB, private crypto.Signer) (signs, verifies []byte) {
	t.Helper()
	p, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	v, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v})
}

func newPair(t testing.TB) (signs, verifies []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, private)
}

func signed(t testing.TB, fsys fs.FS, key []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Sign(t.Context(), &out, fsys, key); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unpacked gives the files of a tar.gz by name.
func unpacked(t testing.TB, packed []byte) map[string][]byte {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(gz); ; {
		header, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func packed(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestASignedBundleIsTheSamePolicy(t *testing.T) {
	onCurve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ofRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, private := range map[string]crypto.Signer{"Ed25519": edwards, "ECDSA": onCurve, "RSA": ofRSA} {
		t.Run(name, func(t *testing.T) {
			signs, verifies := pair(t, private)
			archive := signed(t, Bundle(), signs)
			dir := t.TempDir()
			for name, text := range unpacked(t, archive) {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(t.TempDir(), "policy.tar.gz")
			if err := os.WriteFile(file, archive, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{file, dir} {
				fsys, err := Open(path, verifies)
				if err != nil {
					t.Fatal(err)
				}
				engine, err := Admit(t.Context(), fsys)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := engine.Revision(), newEngine(t).Revision(); got != want {
					t.Errorf("revision %s, signed was %s", got, want)
				}
				passed, failed, coverage, err := Test(t.Context(), fsys, io.Discard)
				if err != nil || passed < 40 || failed > 0 || coverage != 100 {
					t.Errorf("%d passed, %d failed, %.1f %% covered, %v", passed, failed, coverage, err)
				}
			}
			if fsys, err := Open(file, nil); err != nil {
				t.Errorf("without a key: %v", err)
			} else if err := Check(fsys); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASignedBundleIsRefusedWhen(t *testing.T) {
	signs, verifies := newPair(t)
	otherSigns, otherVerifies := newPair(t)
	good := signed(t, Bundle(), signs)
	change := func(f func(map[string][]byte)) []byte {
		files := unpacked(t, good)
		f(files)
		return packed(t, files)
	}
	// A token that an attacker makes with what he knows: the public key, as the secret of another algorithm.
	forged := func(algorithm, key string) []byte {
		b := bundle.Bundle{Data: map[string]any{}}
		files := unpacked(t, good)
		for name, text := range files {
			if strings.HasSuffix(name, ".rego") {
				b.Modules = append(b.Modules, bundle.ModuleFile{URL: name, Path: name, Raw: text})
			}
		}
		if err := b.GenerateSignature(bundle.NewSigningConfig(key, algorithm, ""), keyID, true); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(b.Signatures)
		if err != nil {
			t.Fatal(err)
		}
		return change(func(files map[string][]byte) {
			files["/.signatures.json"] = text
			delete(files, "/.manifest")
		})
	}
	for _, c := range []struct {
		name    string
		archive []byte
		key     []byte
		want    string
	}{
		{"nobody signed it", change(func(files map[string][]byte) { delete(files, "/.signatures.json") }), verifies, "missing .signatures.json"},
		{"the signature is empty", change(func(files map[string][]byte) { files["/.signatures.json"] = []byte(`{"signatures":[]}`) }), verifies, "signature"},
		{"the signature is no JSON", change(func(files map[string][]byte) { files["/.signatures.json"] = []byte(`x`) }), verifies, "signatures decode"},
		{"somebody else signed it", signed(t, Bundle(), otherSigns), verifies, "failed to verify JWT signature"},
		{"another key is configured", good, otherVerifies, "failed to verify JWT signature"},
		{"the public key was used as a secret", forged("HS256", string(verifies)), verifies, "failed to verify JWT signature"},
		{"a file was changed", change(func(files map[string][]byte) { files["/converse.rego"] = append(files["/converse.rego"], '\n') }), verifies, "converse.rego: digest mismatch"},
		{"a file was added", change(func(files map[string][]byte) { files["/more.rego"] = []byte("package counterfoil.more\n") }), verifies, "more.rego not included in bundle signature"},
		{"a file is missing", change(func(files map[string][]byte) { delete(files, "/limits.rego") }), verifies, "limits.rego"},
		{"a patch was put in its place", packed(t, map[string][]byte{"/patch.json": []byte(`{"data":[{"op":"upsert","path":"/x","value":1}]}`)}), verifies, "delta bundles do not support"},
		{"data was added", change(func(files map[string][]byte) { files["/data.json"] = []byte(`{"counterfoil":{"limits":{}}}`) }), verifies, "digest mismatch"},
		{"it is cut off", good[:len(good)/2], verifies, "not a whole tar.gz"},
		{"it is something else", []byte("package counterfoil\n"), verifies, "not a tar.gz"},
		{"it is empty", nil, verifies, "not a tar.gz"},
		{"it is a bomb", bomb(t), verifies, "larger than"},
		{"the key signs instead of verifying", good, signs, "PUBLIC KEY"},
		{"the key is none", good, []byte("key"), "PUBLIC KEY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, err := openArchive(c.archive, c.key)
			if err == nil || fsys != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	t.Run("it holds data that nothing reads", func(t *testing.T) {
		archive := change(func(files map[string][]byte) { files["/data.json"] = []byte(`{"counterfoil":{"extra":1}}`) })
		if _, err := openArchive(archive, nil); err == nil || !strings.Contains(err.Error(), "holds data") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a directory has one file more than was signed", func(t *testing.T) {
		dir := t.TempDir()
		for name, text := range unpacked(t, good) {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(dir, verifies); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "more.rego"), []byte("package more\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, verifies); err == nil || !strings.Contains(err.Error(), "more.rego not included") {
			t.Errorf("%v", err)
		}
	})
}

// What the right key signed by other means is checked as strictly, and refused with file, line and reason.
func TestAValidSignatureExcusesNothing(t *testing.T) {
	signs, verifies := newPair(t)
	for text, want := range map[string]string{
		"package counterfoil.more\n\np if {\n": "more.rego:4: rego_parse_error",
		"package counterfoil.more\n\np := http.send({\"url\": \"http://127.0.0.1\", \"method\": \"get\"})\n": "more.rego:3: rego_type_error: undefined function http.send",
		"package counterfoil.more\n\np if input.actr.kind == \"agent\"\n":                                    "more.rego:3: rego_type_error: undefined ref: input.actr.kind",
	} {
		b := bundle.Bundle{Data: map[string]any{}}
		for name, file := range withFile(t, "more.rego", text) {
			b.Modules = append(b.Modules, bundle.ModuleFile{URL: "/" + name, Path: "/" + name, Raw: file.Data})
		}
		if err := b.GenerateSignature(bundle.NewSigningConfig(string(signs), "EdDSA", ""), "another id", true); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := bundle.NewWriter(&out).UseModulePath(true).DisableFormat(true).Write(b); err != nil {
			t.Fatal(err)
		}
		fsys, err := openArchive(out.Bytes(), verifies)
		if err == nil {
			_, err = Admit(t.Context(), fsys)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// bomb is small and becomes large.
func bomb(t *testing.T) []byte {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	if _, err := gz.Write(make([]byte, maxArchiveBytes+1)); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAPathOutOfTheBundleIsRefused(t *testing.T) {
	for _, name := range []string{"../decision.rego", "/../decision.rego", "/a/../../decision.rego", "a//decision.rego", "./decision.rego", "/decision%2e%2e.rego/..%2fx.rego"} {
		fsys, err := openArchive(packed(t, map[string][]byte{name: []byte("package counterfoil\n")}), nil)
		if err != nil {
			continue
		}
		// What is taken stands in the bundle under a plain path.
		found, err := fs.Glob(fsys, "*")
		if err != nil || len(found) != 1 || strings.Contains(found[0], "..") && !strings.Contains(found[0], "%2e") {
			t.Errorf("%s became %q, %v", name, found, err)
		}
	}
}

func TestAPolicyFromOutsideIsNotAdmittedWhen(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"it allows by default", "decision.rego", "package counterfoil\n\ndefault decision := {\"allow\": true, \"rule\": \"r\", \"masked\": set(), \"obligations\": set()}\n", "no default that denies"},
		{"it has no default", "decision.rego", "package counterfoil\n\ndecision := {\"allow\": false, \"reasons\": {\"x\"}}\n", "no default that denies"},
		{"it lets everything through", "more.rego", "package counterfoil\n\ndecision := {\"allow\": true, \"rule\": \"all\", \"masked\": set(), \"obligations\": set()} if input.purpose != \"x\"\n", "admit policy"},
		{"a veto was taken away", "decision.rego", `package counterfoil

default decision := {"allow": false, "reasons": {"no_rule"}}

decision := data.counterfoil.purposes[input.purpose].permit

veto contains "never" if input.purpose == "never"
`, "across organisations"},
		{"it forgets the address", "administer.rego", `package counterfoil.purposes.administer

permit := {"allow": true, "rule": "administer.anywhere", "masked": set(), "obligations": set()} if {
	input.actor.kind in {"admin", "operator"}
	input.audience in {"console", "service"}
	input.subject.kind == ""
	input.fields == []
}
`, "rule administer.anywhere allows what no policy may: administer, a security administrator, from an address that is not admitted"},
		{"it lets somebody approve himself", "approval.rego", `package counterfoil.approval

by_another if input.approval.by != ""

for_this if input.approval.actor != ""

in_force if input.approval.expires_in_seconds > 0
`, "rule break_glass.approved allows what no policy may: break_glass, an auditor, approved by somebody else, approved by himself"},
		{"it does not compile", "more.rego", "package counterfoil\n\np if {\n", "more.rego:4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle := withFile(t, c.file, c.text)
			for name := range bundle {
				if strings.HasSuffix(name, "_test.rego") {
					delete(bundle, name)
				}
			}
			engine, err := Admit(t.Context(), bundle)
			if err == nil || engine != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			signs, _ := newPair(t)
			var out bytes.Buffer
			if err := Sign(t.Context(), &out, bundle, signs); err == nil || out.Len() > 0 {
				t.Errorf("it was signed: %d bytes, %v", out.Len(), err)
			}
		})
	}
	if _, err := Admit(t.Context(), Bundle()); err != nil {
		t.Errorf("the built-in one: %v", err)
	}
}

func TestAKeyThatDoesNotSignIsRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	signs, verifies := pair(t, small)
	if err := Sign(t.Context(), io.Discard, Bundle(), signs); err == nil || !strings.Contains(err.Error(), "2048 bits") {
		t.Errorf("a small key: %v", err)
	}
	if _, err := verification(verifies); err == nil || !strings.Contains(err.Error(), "2048 bits") {
		t.Errorf("a small key: %v", err)
	}
	if err := Sign(t.Context(), io.Discard, Bundle(), verifies); err == nil || !strings.Contains(err.Error(), "PRIVATE KEY") {
		t.Errorf("a public key: %v", err)
	}
}

func TestAnEngineAdoptsAnotherBundleBetweenDecisions(t *testing.T) {
	engine, before := newEngine(t), newEngine(t)
	other, err := Load(t.Context(), withFile(t, "hold.rego", "package counterfoil\n\nveto contains \"legal_hold\" if input.subject.ref != \"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		defer close(done)
		for range 300 {
			d, err := engine.Decide(t.Context(), showAgent())
			if err != nil || d.Allowed() != (d.Revision() == before.Revision()) {
				done <- fmt.Errorf("%s by %s, %w", d.Outcome(), d.Revision(), err)
				return
			}
		}
	}()
	for i := range 100 {
		engine.Adopt([]*Engine{other, before}[i%2])
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	engine.Adopt(other)
	if d, _ := engine.Decide(t.Context(), showAgent()); d.Allowed() || engine.Revision() != other.Revision() {
		t.Errorf("%s by %s", d.Outcome(), engine.Revision())
	}
}

func FuzzOpenArchive(f *testing.F) {
	signs, verifies := newPair(f)
	_, others := newPair(f)
	good := signed(f, Bundle(), signs)
	f.Add(good)
	f.Add(packed(f, map[string][]byte{"/a.rego": []byte("package a\n"), "/.signatures.json": []byte(`{"signatures":["a.b.c"]}`)}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, archive []byte) {
		if _, err := openArchive(archive, others); err == nil {
			t.Error("taken without a signature of the key")
		}
		if fsys, err := openArchive(archive, verifies); err == nil && !bytes.Equal(archive, good) {
			engine, err := Admit(t.Context(), fsys)
			if err != nil || engine.Revision() != mustRevision(t) {
				t.Errorf("another policy passes for the signed one: %v", err)
			}
		}
	})
}

func mustRevision(t *testing.T) string { return newEngine(t).Revision() }
