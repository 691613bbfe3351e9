package policy

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
)

// maxArchiveBytes bounds a bundle file, packed and unpacked.
const maxArchiveBytes = 16 << 20

// keyID names the one key of a verification, whatever a signature says of its own key.
const keyID = "counterfoil"

// Open reads a bundle: a directory, or a file as Sign writes it (an OPA bundle, tar.gz). With a key, a public one in
// PEM, everything must be under one signature of it, by OPA's own verification. Without a key nobody is asked who wrote
// it, which is for looking at a bundle and never for deciding by it.
func Open(path string, key []byte) (fs.FS, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: %w", withoutPath(err))
	}
	if info.IsDir() {
		return openDir(os.DirFS(path), key)
	}
	packed, err := readArchive(path)
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: %w", withoutPath(err))
	}
	return openArchive(packed, key)
}

// readArchive reads a bundle file, and of one that is too large no more than shows it.
func readArchive(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	packed, err := io.ReadAll(io.LimitReader(file, maxArchiveBytes+1))
	return packed, errors.Join(err, file.Close())
}

// withoutPath leaves the path on this machine out of an error, which may be recorded.
func withoutPath(err error) error {
	if at := new(fs.PathError); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Signed is a bundle as one file, under a signature that was verified. Without a digest it is the policy compiled in.
type Signed struct {
	Packed           []byte
	Digest, Revision string
}

// Digest is by what a bundle is approved: SHA-256 of the file.
func Digest(packed []byte) string {
	sum := sha256.Sum256(packed)
	return hex.EncodeToString(sum[:])
}

// Pack loads a bundle as strictly as one that decides, signed with the key, and gives it as one file. Of a directory it makes one.
func Pack(ctx context.Context, path string, key []byte) (Signed, *Engine, error) {
	if len(key) == 0 {
		return Signed{}, nil, errors.New("open policy bundle: there is no key to verify it with")
	}
	info, err := os.Stat(path)
	var packed []byte
	if err == nil && info.IsDir() {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		err = errors.Join(w.AddFS(os.DirFS(path)), w.Close(), z.Close())
		packed = b.Bytes()
	} else if err == nil {
		packed, err = readArchive(path)
	}
	if err != nil {
		return Signed{}, nil, fmt.Errorf("open policy bundle: %w", withoutPath(err))
	}
	fsys, err := openArchive(packed, key)
	if err != nil {
		return Signed{}, nil, err
	}
	engine, err := Admit(ctx, fsys)
	if err != nil {
		return Signed{}, nil, err
	}
	return Signed{packed, Digest(packed), engine.Revision()}, engine, nil
}

// AdmitKept loads a bundle whose signature was verified when it was kept, and of which somebody else vouches that it is the same.
func AdmitKept(ctx context.Context, packed []byte) (*Engine, error) {
	fsys, err := openArchive(packed, nil)
	if err != nil {
		return nil, err
	}
	return Admit(ctx, fsys)
}

func openDir(dir fs.FS, key []byte) (fs.FS, error) {
	if key == nil {
		return dir, nil
	}
	loader, err := bundle.NewFSLoader(dir)
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: %w", err)
	}
	// The loader's own form of paths takes the dot off ".signatures.json".
	return verified(loader.WithPathFormat(bundle.SlashRooted), key)
}

func openArchive(packed, key []byte) (fs.FS, error) {
	if len(packed) > maxArchiveBytes {
		return nil, fmt.Errorf("open policy bundle: larger than %d bytes", maxArchiveBytes)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: not a tar.gz: %w", err)
	}
	n, err := io.Copy(io.Discard, io.LimitReader(unpacked, maxArchiveBytes+1))
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: not a whole tar.gz: %w", err)
	}
	if n > maxArchiveBytes {
		return nil, fmt.Errorf("open policy bundle: larger than %d bytes when unpacked", maxArchiveBytes)
	}
	return verified(bundle.NewTarballLoaderWithBaseURL(bytes.NewReader(packed), ""), key)
}

// verified reads a bundle through OPA and gives exactly the bytes whose signature was checked.
func verified(loader bundle.DirectoryLoader, key []byte) (fs.FS, error) {
	reader := bundle.NewCustomReader(loader.WithSizeLimitBytes(maxFileBytes)).
		WithSizeLimitBytes(maxFileBytes).
		WithRegoVersion(ast.RegoV1).
		WithSkipBundleVerification(key == nil)
	if key != nil {
		config, err := verification(key)
		if err != nil {
			return nil, err
		}
		reader = reader.WithBundleVerificationConfig(config)
	}
	b, err := reader.Read()
	if err != nil {
		return nil, fmt.Errorf("open policy bundle: %w", err)
	}
	if len(b.Data) > 0 || len(b.WasmModules) > 0 || len(b.PlanModules) > 0 {
		return nil, errors.New("open policy bundle: it holds data, WebAssembly or a plan, of which nothing would be used")
	}
	var files []sourceFile
	seen := map[string]bool{}
	for _, module := range b.Modules {
		name := strings.TrimPrefix(module.Path, "/")
		if !fs.ValidPath(name) || seen[name] {
			return nil, fmt.Errorf("open policy bundle: %q is no path in it, or is there twice", shorten(name))
		}
		seen[name] = true
		files = append(files, sourceFile{name, module.Raw})
	}
	return inMemory(files)
}

// inMemory makes a file system of files. A zip is the one that the standard library has over bytes.
func inMemory(files []sourceFile) (fs.FS, error) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	for _, file := range files {
		entry, err := w.CreateHeader(&zip.FileHeader{Name: file.path, Method: zip.Store})
		if err == nil {
			_, err = entry.Write(file.text)
		}
		if err != nil {
			return nil, fmt.Errorf("hold policy bundle: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("hold policy bundle: %w", err)
	}
	return zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
}

// verification is how a signature is checked: by this key, and by the algorithm that belongs to it.
func verification(key []byte) (*bundle.VerificationConfig, error) {
	block, rest := pem.Decode(key)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the key that verifies policies must be one PEM block \"PUBLIC KEY\", such as `openssl pkey -pubout` writes")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key that verifies policies cannot be read")
	}
	algorithm, err := algorithmOf(public)
	if err != nil {
		return nil, err
	}
	return bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{keyID: {Key: string(key), Algorithm: algorithm}}, keyID, "", nil), nil
}

func algorithmOf(public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return "EdDSA", nil
	case *ecdsa.PublicKey:
		if public.Curve == elliptic.P256() {
			return "ES256", nil
		}
	case *rsa.PublicKey:
		if public.Size() >= 256 {
			return "RS256", nil
		}
	}
	return "", errors.New("a policy is signed with Ed25519, with ECDSA over P-256, or with RSA of at least 2048 bits")
}

// Sign writes the policy in dir as an OPA bundle, signed with a private key in PEM. It refuses what Admit refuses.
func Sign(ctx context.Context, w io.Writer, dir fs.FS, key []byte) error {
	engine, err := Admit(ctx, dir)
	if err != nil {
		return err
	}
	files, err := readBundle(dir)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(key)
	if block == nil || block.Type != "PRIVATE KEY" {
		return errors.New("the key that signs policies must be a PEM block \"PRIVATE KEY\", such as `openssl genpkey -algorithm ed25519` writes")
	}
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("the key that signs policies cannot be read")
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return errors.New("the key that signs policies cannot sign")
	}
	algorithm, err := algorithmOf(signer.Public())
	if err != nil {
		return err
	}
	b := bundle.Bundle{Data: map[string]any{}, Manifest: bundle.Manifest{Revision: engine.Revision()}}
	for _, file := range files {
		b.Modules = append(b.Modules, bundle.ModuleFile{URL: "/" + file.path, Path: "/" + file.path, Raw: file.text})
	}
	b.Manifest.Init()
	if err := b.GenerateSignature(bundle.NewSigningConfig(string(pem.EncodeToMemory(block)), algorithm, ""), keyID, true); err != nil {
		return fmt.Errorf("sign policy: %w", err)
	}
	if err := bundle.NewWriter(w).UseModulePath(true).DisableFormat(true).Write(b); err != nil {
		return fmt.Errorf("write policy bundle: %w", err)
	}
	return nil
}

// Admit loads a policy that comes from outside the program. Beyond what Load asks, it must deny by default, and must
// deny what no policy may ever allow.
func Admit(ctx context.Context, fsys fs.FS) (*Engine, error) {
	e, err := Load(ctx, fsys)
	if err != nil {
		return nil, err
	}
	rules := e.program.Load().compiler.GetRulesExact(ast.MustParseRef(entryPoint))
	denies := false
	for _, rule := range rules {
		denies = denies || rule.Default && isDenial(rule.Head.Value)
	}
	if !denies {
		return nil, fmt.Errorf("admit policy: %s: no default that denies", rules[0].Location)
	}
	for _, never := range forbidden() {
		decision, err := e.Decide(ctx, never.in)
		if err != nil {
			return nil, fmt.Errorf("admit policy: %s: %w", never.name, err)
		}
		if decision.Allowed() {
			return nil, fmt.Errorf("admit policy: rule %s allows what no policy may: %s", decision.Rule(), never.name)
		}
	}
	return e, nil
}

// isDenial reports whether a term is an object that does not allow.
func isDenial(term *ast.Term) bool {
	object, ok := term.Value.(ast.Object)
	if !ok {
		return false
	}
	allow, ok := truth(object, keyAllow)
	return ok && !allow
}

// forbidden returns questions to which the answer is no, whatever the policy: every permitted question of the matrix,
// spoilt in one respect.
func forbidden() []base {
	spoil := []struct {
		how   string
		apply func(*Input)
	}{
		{"across organisations", func(in *Input) { in.Subject.Organisation = "o2" }},
		{"by somebody of another organisation", func(in *Input) { in.Actor.Organisation = "o2" }},
		{"in no organisation", func(in *Input) { in.Actor.Organisation, in.Subject.Organisation = "", "" }},
		{"for an unknown purpose", func(in *Input) { in.Purpose = "other" }},
		{"by an unknown kind of actor", func(in *Input) { in.Actor.Kind = "other" }},
		{"to an unknown audience", func(in *Input) { in.Audience = "other" }},
		{"about an unknown kind of subject", func(in *Input) { in.Subject.Kind = "other" }},
		{"of an unknown field", func(in *Input) { in.Fields = []string{"other"} }},
	}
	all := []base{{"the empty question", Input{}}}
	for _, purpose := range Purposes() {
		for _, permitted := range bases(purpose) {
			for _, s := range spoil {
				in := permitted.in.clone()
				s.apply(&in)
				all = append(all, base{string(purpose) + ", " + permitted.name + ", " + s.how, in})
			}
			if purpose != BreakGlass && purpose != AnswerRequest && len(permitted.in.Fields) > 0 && permitted.in.Actor.Kind != permitted.in.Subject.Kind && permitted.in.Conversation.ActorIs != "visitor" {
				in := permitted.in.clone()
				in.Subject.Restricted = true
				all = append(all, base{string(purpose) + ", " + permitted.name + ", of what is restricted", in})
			}
			if permitted.in.Actor.Kind != "admin" {
				continue
			}
			in := permitted.in.clone()
			in.Actor.Address = "refused"
			all = append(all, base{string(purpose) + ", " + permitted.name + ", from an address that is not admitted", in})
			in = permitted.in.clone()
			in.Actor.Factors = in.Actor.Factors[:1]
			all = append(all, base{string(purpose) + ", " + permitted.name + ", with a password alone", in})
			if permitted.in.Approval != (Approval{}) {
				in = permitted.in.clone()
				in.Approval.By, in.Approval.Actor = in.Actor.Ref, in.Actor.Ref
				all = append(all, base{string(purpose) + ", " + permitted.name + ", approved by himself", in})
			}
		}
	}
	return all
}
