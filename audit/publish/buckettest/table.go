package buckettest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what S3 calls an ETag
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"counterfoil/audit"
	"counterfoil/audit/publish"
)

// Names of the buckets that Run makes, with object lock and without.
const (
	Locked = "locked"
	Plain  = "plain"
)

// Client speaks to a target as whoever has its credentials can.
func Client(t testing.TB, target Target) *minio.Core {
	t.Helper()
	u, err := url.Parse(target.Endpoint)
	must(t, err)
	c, err := minio.NewCore(u.Host, &minio.Options{Creds: credentials.NewStaticV4(target.KeyID, target.Secret, ""), Region: target.Region, Transport: http.DefaultTransport, MaxRetries: 1})
	must(t, err)
	return c
}

// MakeBuckets makes both buckets.
func MakeBuckets(t testing.TB, target Target) {
	t.Helper()
	c := Client(t, target)
	must(t, c.MakeBucket(t.Context(), Locked, minio.MakeBucketOptions{ObjectLocking: true}))
	must(t, c.MakeBucket(t.Context(), Plain, minio.MakeBucketOptions{}))
}

// Open makes a destination of one of the target's buckets.
func Open(t testing.TB, target Target, bucket string) *publish.Bucket {
	t.Helper()
	b, err := publish.OpenBucket(publish.BucketConfig{
		Name: bucket, Endpoint: target.Endpoint, Region: target.Region, KeyID: target.KeyID, Secret: target.Secret,
		Lock: publish.LockCompliance, Transport: http.DefaultTransport, Now: time.Now,
	})
	must(t, err)
	return b
}

// Put writes over an object as somebody does who has the credentials.
func Put(t testing.TB, c *minio.Core, key string, data []byte, o minio.PutObjectOptions) error {
	t.Helper()
	o.DisableContentSha256 = true                     // the sums are given here
	short, long := md5.Sum(data), sha256.Sum256(data) //nolint:gosec // as above
	_, err := c.PutObject(t.Context(), Locked, key, bytes.NewReader(data), int64(len(data)), base64.StdEncoding.EncodeToString(short[:]), hex.EncodeToString(long[:]), o)
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Run makes the buckets and holds the table against a target.
func Run(t *testing.T, target Target) {
	MakeBuckets(t, target)
	c := Client(t, target)
	locked := func() minio.PutObjectOptions {
		return minio.PutObjectOptions{Mode: minio.Compliance, RetainUntilDate: time.Now().Add(time.Hour).UTC()}
	}
	absent := func(o minio.PutObjectOptions) minio.PutObjectOptions {
		o.SetMatchETagExcept("*")
		return o
	}
	over := func(etag string) minio.PutObjectOptions {
		var o minio.PutObjectOptions
		o.SetMatchETag(etag)
		return o
	}
	etag := func(text string) string {
		sum := md5.Sum([]byte(text)) //nolint:gosec // as above
		return hex.EncodeToString(sum[:])
	}
	ago := locked()
	ago.RetainUntilDate = time.Now().Add(-time.Hour).UTC()
	for i, step := range []struct {
		name, key, text string
		o               minio.PutObjectOptions
		status          int
	}{
		{"what is not there is created", "a/b", "1", absent(locked()), 0},
		{"what is there is not", "a/b", "1", absent(locked()), http.StatusPreconditionFailed},
		{"without a condition it is written over, as a new version", "a/b", "2", locked(), 0},
		{"a lock cannot end in the past", "a/c", "1", ago, http.StatusBadRequest},
		{"what is to be replaced begins", "r", "1", absent(minio.PutObjectOptions{}), 0},
		{"it is replaced by who has read it", "r", "2", over(etag("1")), 0},
		{"and not by who has not", "r", "3", over(etag("1")), http.StatusPreconditionFailed},
	} {
		if err := Put(t, c, step.key, []byte(step.text), step.o); minio.ToErrorResponse(err).StatusCode != step.status || (err == nil) != (step.status == 0) {
			t.Errorf("step %d, %s: %v", i, step.name, err)
		}
	}
	short, long := md5.Sum([]byte("x")), sha256.Sum256([]byte("x")) //nolint:gosec // as above
	_, err := c.PutObject(t.Context(), Locked, "damaged", strings.NewReader("y"), 1, base64.StdEncoding.EncodeToString(short[:]), hex.EncodeToString(long[:]), minio.PutObjectOptions{DisableContentSha256: true})
	if minio.ToErrorResponse(err).StatusCode != http.StatusBadRequest {
		t.Errorf("what was damaged on its way: %v", err)
	}
	must(t, c.RemoveObject(t.Context(), Locked, "a/b", minio.RemoveObjectOptions{}))
	if _, _, _, err := c.GetObject(t.Context(), Locked, "a/b", minio.GetObjectOptions{}); minio.ToErrorResponse(err).Code != minio.NoSuchKey {
		t.Errorf("what was deleted: %v", err)
	}
	var versions, markers int
	for v := range c.ListObjectsIter(t.Context(), Locked, minio.ListObjectsOptions{Prefix: "a/", Recursive: true, WithVersions: true}) {
		must(t, v.Err)
		if v.IsDeleteMarker {
			markers++
			continue
		}
		versions++
		if err := c.RemoveObject(t.Context(), Locked, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID}); minio.ToErrorResponse(err).StatusCode != http.StatusForbidden {
			t.Errorf("a locked version is deleted: %v", err)
		}
	}
	if versions != 2 || markers != 1 {
		t.Errorf("%d versions and %d markers", versions, markers)
	}
	wrong := target
	wrong.Secret += "x"
	if err := Put(t, Client(t, wrong), "w", nil, minio.PutObjectOptions{}); minio.ToErrorResponse(err).StatusCode != http.StatusForbidden {
		t.Errorf("a wrong secret: %v", err)
	}

	for bucket, want := range map[string]string{Locked: "", Plain: "it keeps no versions", "nowhere": "there is none of this name"} {
		err := Open(t, target, bucket).Check(t.Context())
		if want == "" && err != nil || want != "" && (!errors.Is(err, publish.ErrUnsafe) || !strings.Contains(err.Error(), want)) {
			t.Errorf("the bucket %s: %v", bucket, err)
		}
	}
	if err := Open(t, wrong, Locked).Check(t.Context()); err == nil || errors.Is(err, publish.ErrUnsafe) {
		t.Errorf("a wrong secret says of the bucket: %v", err)
	}

	grow(t, target)
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) { tamper(t, target, name, attack.do, attack.want) })
	}
	compete(t, target)
}

// log is a made-up log of n records.
type log struct {
	signer  *audit.Signer
	origin  string
	entries [][]byte
}

func newLog(t *testing.T, name string, n int) log {
	t.Helper()
	key, err := audit.NewKey(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	l := log{origin: "chat.example/audit/" + name}
	l.signer, err = key.For(l.origin)
	must(t, err)
	for i := range n {
		e := audit.Entry{
			Seq: uint64(i), Time: time.Unix(1_800_000_000+int64(i), 0).UTC(), Organisation: name, Kind: audit.Denial, Action: "introduce",
			Actor: audit.Party{Kind: "agent", Ref: "9f86d081"}, Decision: audit.DecisionDeny,
		}
		e.Nonce[0], e.Nonce[1], e.Nonce[15] = byte(i), byte(i>>8), 1
		b, err := e.Marshal()
		must(t, err)
		l.entries = append(l.entries, b)
	}
	return l
}

// write brings the log's place in a bucket to its first n records.
func (l log) write(t *testing.T, b publish.Destination, n int) error {
	t.Helper()
	tree := audit.NewTree()
	for _, e := range l.entries[:n] {
		tree.Append(audit.LeafHash(e), nil)
	}
	signed, err := l.signer.Sign(tree.Size(), tree.Root())
	must(t, err)
	place, release, err := b.Open(t.Context(), l.origin, time.Now().AddDate(0, 0, 90))
	must(t, err)
	defer release()
	w, err := audit.OpenExport(t.Context(), place, l.signer.VerifierKey())
	if err != nil {
		return err
	}
	w.KeepCheckpoints()
	return w.Write(t.Context(), signed, l.from(w.Next()))
}

func (l log) from(next uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, e := range l.entries[next:] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// faults is what reading the whole place finds.
func (l log) faults(t *testing.T, b publish.Destination, n int) []audit.Fault {
	t.Helper()
	files, err := b.Files(t.Context(), l.origin)
	must(t, err)
	r, err := audit.VerifyExport(t.Context(), files, audit.Options{Key: l.signer.VerifierKey()})
	must(t, err)
	if len(r.Faults) == 0 && r.Records != uint64(n) {
		t.Errorf("%d records are in the bucket, not %d", r.Records, n)
	}
	return r.Faults
}

// sizes through which a log grows.
var sizes = []int{0, 1, 255, 256, 257, 300, 512, 600}

// grow publishes a log as it grows, and finds it whole each time.
func grow(t *testing.T, target Target) {
	t.Helper()
	l, b := newLog(t, "grows", 600), Open(t, target, Locked)
	for _, n := range sizes {
		must(t, l.write(t, b, n))
		must(t, l.write(t, b, n)) // again changes nothing
		if f := l.faults(t, b, n); len(f) > 0 {
			t.Fatalf("%d records: %v", n, f)
		}
	}
	if changed, err := b.Overwritten(t.Context(), l.origin); err != nil || len(changed) > 0 {
		t.Errorf("untouched, but: %q, %v", changed, err)
	}
	now, before, err := b.Seen(t.Context(), l.origin, audit.CheckpointFile)
	must(t, err)
	if !strings.Contains(string(now), "\n600\n") || len(before) == 0 || !strings.Contains(string(before[0]), "\n512\n") {
		t.Errorf("the newest checkpoint is %q, before it %q", now, before)
	}
	must(t, l.write(t, b, 600))
	c := Client(t, target)
	for v := range c.ListObjectsIter(t.Context(), Locked, minio.ListObjectsOptions{Prefix: l.origin + "/", Recursive: true, WithVersions: true}) {
		must(t, v.Err)
		name := strings.TrimPrefix(v.Key, l.origin+"/")
		free := name == audit.CheckpointFile || name == audit.KeyFile || strings.Contains(name, ".p/")
		if v.IsDeleteMarker || free {
			continue
		}
		if err := c.RemoveObject(t.Context(), Locked, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID}); minio.ToErrorResponse(err).StatusCode != http.StatusForbidden {
			t.Errorf("%s can be deleted: %v", name, err)
		}
	}
}

// attacks are what somebody does who has the credentials, and what is found of it.
var attacks = map[string]struct {
	do   func(t *testing.T, c *minio.Core, l log)
	want string
}{
	"a tile is written over":    {overwrite("tile/0/000"), "tile/0/000 was written over"},
	"a bundle is written over":  {overwrite("tile/entries/001"), "tile/entries/001 was written over"},
	"a bundle is deleted":       {erase("tile/entries/000"), "tile/entries/000 was deleted"},
	"the checkpoint is deleted": {erase(audit.CheckpointFile), audit.CheckpointFile + " was deleted"},
	"an older checkpoint is put over the newest": {func(t *testing.T, c *minio.Core, l log) {
		t.Helper()
		tree := audit.NewTree()
		for _, e := range l.entries[:300] {
			tree.Append(audit.LeafHash(e), nil)
		}
		signed, err := l.signer.Sign(300, tree.Root())
		must(t, err)
		for range 20 {
			must(t, Put(t, c, l.origin+"/"+audit.CheckpointFile, signed, minio.PutObjectOptions{}))
		}
	}, "checkpoint is of 300 records, and checkpoints/600 was published before it"},
}

func overwrite(name string) func(*testing.T, *minio.Core, log) {
	return func(t *testing.T, c *minio.Core, l log) {
		t.Helper()
		must(t, Put(t, c, l.origin+"/"+name, []byte("something else"), minio.PutObjectOptions{}))
	}
}

func erase(name string) func(*testing.T, *minio.Core, log) {
	return func(t *testing.T, c *minio.Core, l log) {
		t.Helper()
		must(t, c.RemoveObject(t.Context(), Locked, l.origin+"/"+name, minio.RemoveObjectOptions{}))
	}
}

func tamper(t *testing.T, target Target, name string, attack func(*testing.T, *minio.Core, log), want string) {
	t.Helper()
	l, b := newLog(t, strings.ReplaceAll(name, " ", "-"), 601), Open(t, target, Locked)
	for _, n := range []int{300, 600} {
		must(t, l.write(t, b, n))
	}
	attack(t, Client(t, target), l)
	changed, err := b.Overwritten(t.Context(), l.origin)
	must(t, err)
	if !strings.Contains(strings.Join(changed, "\n"), want) {
		t.Errorf("found is %q", changed)
	}
	_, before, err := b.Seen(t.Context(), l.origin, audit.CheckpointFile)
	must(t, err)
	newest := false
	for _, s := range before {
		newest = newest || strings.Contains(string(s), "\n600\n")
	}
	if now := strings.Contains(name, "checkpoint"); now && !newest {
		t.Errorf("that 600 records were published is forgotten: %q", before)
	} else if !now && len(l.faults(t, b, 600)) == 0 {
		t.Error("what lies there verifies")
	}
	if strings.Contains(name, "checkpoint") { // the next publication mends what is shown
		must(t, l.write(t, b, 601))
		if f := l.faults(t, b, 601); len(f) > 0 {
			t.Errorf("after it was published again: %v", f)
		}
	}
}

// compete lets two write what the other has not read.
func compete(t *testing.T, target Target) {
	t.Helper()
	b := Open(t, target, Locked)
	open := func() audit.Place {
		place, _, err := b.Open(t.Context(), "chat.example/audit/two", time.Now().AddDate(0, 0, 90))
		must(t, err)
		return place
	}
	first, second := open(), open()
	if _, err := first.Read(t.Context(), "x", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	for _, place := range []audit.Place{first, second} {
		if _, err := place.Read(t.Context(), audit.CheckpointFile, 100); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		must(t, place.Create(t.Context(), "x", []byte("both")))
	}
	must(t, second.Replace(t.Context(), audit.CheckpointFile, []byte("second")))
	if err := first.Replace(t.Context(), audit.CheckpointFile, []byte("first")); err == nil {
		t.Error("what was not read is replaced")
	}
	if err := first.Create(t.Context(), "x", []byte("one")); err == nil || !strings.Contains(err.Error(), "is there already and differs") {
		t.Errorf("what never changes is changed: %v", err)
	}
	if _, err := first.Read(t.Context(), "x", 3); err == nil {
		t.Error("more is read than was asked for")
	}
	if got, err := open().Read(t.Context(), audit.CheckpointFile, 100); err != nil || string(got) != "second" {
		t.Errorf("%q, %v", got, err)
	}
}
