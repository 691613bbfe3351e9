package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// Fault is something that is not as the manifest says.
type Fault struct {
	Kind string `json:"kind"`
	File string `json:"file,omitempty"`
	Text string `json:"text"`
}

// Kinds of faults.
const (
	NoManifest = "no manifest" // it was never finished, or the manifest is gone
	Forged     = "forged"      // by whoever has not the key
	Missing    = "missing"
	Truncated  = "truncated"
	Swapped    = "swapped" // it is another file of the archive
	Changed    = "changed"
	Added      = "added"
)

// Report is what was found out about an archive.
type Report struct {
	Place    string   `json:"place"`
	Manifest Manifest `json:"manifest"`
	Digest   string   `json:"digest,omitempty"` // SHA-256 of the manifest
	Signed   bool     `json:"signed"`           // by a key that was given
	Faults   []Fault  `json:"faults"`
}

func (r *Report) fault(kind, file, format string, args ...any) {
	r.Faults = append(r.Faults, Fault{kind, file, fmt.Sprintf(format, args...)})
}

// Verify checks an archive with nothing but verifier keys of its log: who signed the manifest, and that every file is the one it names. Without keys it only finds out
// whether the archive agrees with itself. progress may be nil; it is told how many bytes were read and how many there are.
func Verify(ctx context.Context, files fs.FS, place string, vkeys []string, progress func(done, of uint64)) (Report, error) {
	r := Report{Place: place, Faults: []Fault{}}
	signed, err := readSmall(files, ManifestFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.fault(NoManifest, ManifestFile, "there is no manifest: the archive was never finished, or its manifest was taken away")
		return r, nil
	case err != nil:
		return r, err
	}
	sum := sha256.Sum256(signed)
	r.Digest = hex.EncodeToString(sum[:])
	if len(vkeys) == 0 {
		r.Manifest, err = unsigned(signed)
	} else {
		r.Manifest, err = openManifest(signed, vkeys)
		r.Signed = err == nil
	}
	switch {
	case errors.Is(err, audit.ErrSignature):
		r.fault(Forged, ManifestFile, "the manifest was not signed by this key: it was changed, or is of another log or of a key before")
		return r, nil
	case errors.Is(err, audit.ErrStatement) || errors.Is(err, errManifest):
		r.fault(Forged, ManifestFile, "the manifest is not one, or of a form that this program does not know")
		return r, nil
	case err != nil:
		return r, err
	}
	var done, of uint64
	whole := make(map[string]File) // by sum
	for _, f := range r.Manifest.Files {
		whole[f.SHA256] = f
		of += uint64(f.Bytes)
	}
	for _, f := range r.Manifest.Files {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		hash, n, err := hashed(files, f.Name)
		switch other := whole[hash]; {
		case errors.Is(err, fs.ErrNotExist):
			r.fault(Missing, f.Name, "the file is not there")
		case err != nil:
			return r, err
		case hash == f.SHA256:
		case other.Name != "":
			r.fault(Swapped, f.Name, "the file is %s under this name", other.Name)
		case n < f.Bytes:
			r.fault(Truncated, f.Name, "the file has %d bytes of %d", n, f.Bytes)
		default:
			r.fault(Changed, f.Name, "the file is not the one that the manifest names")
		}
		if done += uint64(f.Bytes); progress != nil {
			progress(done, of)
		}
	}
	if there, err := fs.ReadDir(files, "."); err == nil { // a bucket shows no list this way
		for _, e := range there {
			known := slices.ContainsFunc(r.Manifest.Files, func(f File) bool { return f.Name == e.Name() })
			if !known && e.Name() != ManifestFile && !strings.HasPrefix(e.Name(), ".") {
				r.fault(Added, e.Name(), "the manifest knows no such file")
			}
		}
	}
	return r, nil
}

func readSmall(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, audit.MaxSmall+1))
	err = errors.Join(err, f.Close())
	if err == nil && len(b) > audit.MaxSmall {
		err = fmt.Errorf("%s is too large", name)
	}
	return b, err
}

func hashed(files fs.FS, name string) (hash string, n int64, err error) {
	f, err := files.Open(name)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	n, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, errors.Join(err, f.Close())
}

// VerifyKept checks the archives of an organisation where they lie: each that was made and not removed, and whether it is the one that is on record.
func (d *Desk) VerifyKept(ctx context.Context, organisation uuid.UUID, progress func(done, of uint64)) ([]Report, error) {
	if d.Target == nil {
		return nil, ErrNoTarget
	}
	all, err := d.Archives(ctx, organisation, listed)
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, a := range slices.Backward(all) {
		if a.Made == nil || a.Removed != nil {
			continue
		}
		where := a.Target + "/" + a.Name
		if a.Target != d.Place(organisation) {
			reports = append(reports, Report{Place: where, Faults: []Fault{{Missing, "", "it lies where archives were kept before: check it there, with its directory and --key"}}})
			continue
		}
		files, err := d.Target.Files(ctx, placeOf(organisation, a.Name))
		if err != nil {
			return reports, fmt.Errorf("%w: %w", ErrTarget, err)
		}
		r, err := Verify(ctx, files, where, nil, progress) // who signed it is asked by the digest that is on record
		if err != nil {
			return reports, err
		}
		if r.Digest != "" && r.Digest != a.Manifest {
			r.fault(Forged, ManifestFile, "the manifest is not the one that record %d names", *a.Record)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// Chain looks at archives of one organisation beside each other: which are missing although they were to be kept, and which are not those their successors name.
func Chain(reports []Report, now time.Time) []Fault {
	byNumber := make(map[int]Report)
	for _, r := range reports {
		if r.Manifest.Number > 0 {
			byNumber[r.Manifest.Number] = r
		}
	}
	var faults []Fault
	for _, r := range reports {
		p := r.Manifest.Previous
		if p == nil {
			continue
		}
		before, there := byNumber[p.Number]
		switch {
		case there && before.Digest != p.Manifest:
			faults = append(faults, Fault{Swapped, before.Place, fmt.Sprintf("archive %d is not the one that archive %d followed", p.Number, r.Manifest.Number)})
		case !there && now.Before(p.Until):
			faults = append(faults, Fault{Missing, p.Name, fmt.Sprintf("archive %d is not there, although it was to be kept until %s", p.Number, p.Until.Format(time.DateOnly))})
		}
	}
	return faults
}
