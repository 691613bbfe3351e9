package publish

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // a checksum that servers ask for beside SHA-256, not a protection
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"counterfoil/audit"
)

// BucketConfig names a bucket with versions and object lock, of any service that speaks S3.
type BucketConfig struct {
	Name      string
	Endpoint  string // https, or http on loopback
	Region    string
	KeyID     string
	Secret    string
	Lock      string            // LockCompliance or LockGovernance
	Transport http.RoundTripper // bounds how long an answer may take
	Now       func() time.Time
}

// Who may end the lock of an object early.
const (
	LockCompliance = "compliance" // nobody
	LockGovernance = "governance" // whom the bucket's owner lets
)

// Bucket is a destination that keeps what was published from being changed, whoever asks: every tile is created only if it is not
// there and locked until its records have gone; what is replaced leaves its former version behind. It is safe for concurrent use.
type Bucket struct {
	core *minio.Core
	name string
	lock minio.RetentionMode

	mu   sync.Mutex
	good bool // Check found it as it must be
}

// ErrUnsafe is wrapped by the error that says what a bucket lacks.
var ErrUnsafe = errors.New("the bucket does not keep what is published")

const (
	bucketTimeout  = 30 * time.Second // of one request, its repetitions included
	bucketAttempts = 3
	maxSkew        = 5 * time.Minute
)

// OpenBucket makes a Bucket; nothing is asked of it yet.
func OpenBucket(c BucketConfig) (*Bucket, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, errors.New("the bucket's endpoint is no address")
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(c.KeyID, c.Secret, ""), Secure: u.Scheme == "https", Region: c.Region, MaxRetries: bucketAttempts,
		Transport: clock{c.Transport, c.Now},
	})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", c.Name, err)
	}
	return &Bucket{core: core, name: c.Name, lock: minio.RetentionMode(strings.ToUpper(c.Lock))}, nil
}

// clock refuses the answers of a server whose clock is far from ours: until when something is locked depends on both.
type clock struct {
	next http.RoundTripper
	now  func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (c clock) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if there, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if skew := there.Sub(c.now()).Round(time.Second); skew.Abs() > maxSkew {
			return nil, errors.Join(fmt.Errorf("the clock of the bucket's service is %s from this host's: set this host's clock", skew), resp.Body.Close())
		}
	}
	return resp, nil
}

// Check finds out whether the bucket keeps what is put into it. ErrUnsafe says that it does not; any other error, that it cannot be told.
func (b *Bucket) Check(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.good {
		return nil
	}
	if err := b.check(ctx); err != nil {
		return fmt.Errorf("bucket %s: %w", b.name, err)
	}
	b.good = true
	return nil
}

// probe is an object by which it is tried whether the service honours create-only writes.
const probe = ".counterfoil"

func (b *Bucket) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	versions, err := b.core.GetBucketVersioning(ctx, b.name)
	switch {
	case code(err) == minio.NoSuchBucket:
		return fmt.Errorf("%w: there is none of this name. Make one with versions and object lock", ErrUnsafe)
	case err != nil:
		return fmt.Errorf("ask whether it keeps versions: %w", err)
	case !versions.Enabled():
		return fmt.Errorf("%w: it keeps no versions. Turn on versioning and object lock; some services can do that only when a bucket is made", ErrUnsafe)
	}
	locks, _, _, _, err := b.core.GetObjectLockConfig(ctx, b.name)
	switch {
	case code(err) == "ObjectLockConfigurationNotFoundError" || err == nil && locks != "Enabled":
		return fmt.Errorf("%w: it has no object lock. Turn it on; some services can do that only when a bucket is made", ErrUnsafe)
	case err != nil:
		return fmt.Errorf("ask whether it has object lock: %w", err)
	}
	at := &inBucket{Bucket: b}
	for range 2 {
		switch _, err := at.put(ctx, probe, nil, condition{absent: true}); {
		case refused(err):
			return nil
		case err != nil:
			return fmt.Errorf("try a create-only write: %w", err)
		}
	}
	return fmt.Errorf("%w: its service writes over what is there although it was told to create only (If-None-Match)", ErrUnsafe)
}

// Where implements [Destination].
func (b *Bucket) Where(origin string) string { return "s3://" + path.Join(b.name, origin) }

// at is the place of a log.
func (b *Bucket) at(ctx context.Context, origin string) (*inBucket, error) {
	if err := b.Check(ctx); err != nil {
		return nil, err
	}
	prefix, err := localPath(origin)
	return &inBucket{Bucket: b, prefix: prefix + "/", read: make(map[string]string)}, err
}

// Open implements [Destination]. Several may write at a time: what never changes is created by the first, and what is replaced,
// only by who has read what is there.
func (b *Bucket) Open(ctx context.Context, origin string, keep time.Time) (audit.Place, func(), error) {
	at, err := b.at(ctx, origin)
	if err != nil {
		return nil, nil, err
	}
	at.keep = keep
	return at, func() {}, nil
}

// remembered is how many of the versions of a file are asked for, and lastFew how many of them are read one by one.
const (
	remembered = 1000
	lastFew    = 4
)

// Seen implements [Destination]. Of what the file held before, each content counts once; it gives the last few, and of those
// before them every other, fourth, eighth and so on: whoever puts old ones over the newest must put hundreds of different ones to
// hide it.
func (b *Bucket) Seen(ctx context.Context, origin, name string) (now []byte, before [][]byte, err error) {
	at, err := b.at(ctx, origin)
	if err != nil {
		return nil, nil, err
	}
	var versions []minio.ObjectInfo
	n, known := 0, make(map[string]bool)
	for v := range b.core.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: at.prefix + name, WithVersions: true, MaxKeys: remembered}) {
		if v.Err != nil {
			return nil, nil, at.fail("list the versions of", name, v.Err)
		}
		if n++; v.Key != at.prefix+name || n > remembered {
			break
		}
		if !v.IsDeleteMarker && !known[v.ETag] {
			known[v.ETag] = true
			versions = append(versions, v)
		}
	}
	for i := 0; i < len(versions); i = max(i+1, 2*(i-lastFew)) {
		data, _, err := at.get(ctx, name, versions[i].VersionID, audit.MaxSmall)
		if err != nil {
			return nil, nil, err
		}
		if versions[i].IsLatest {
			now = data
		} else {
			before = append(before, data)
		}
	}
	return now, before, nil
}

// Files implements [Destination].
func (b *Bucket) Files(ctx context.Context, origin string) (fs.FS, error) {
	at, err := b.at(ctx, origin)
	return bucketFS{ctx, at}, err
}

// Locks reports that what is written there can be removed by nobody before its time.
func (b *Bucket) Locks() bool { return true }

// Remove removes all versions of a file of a place, or with an empty name of everything in the place; a lock that has not ended forbids it. It is
// for what is no log.
func (b *Bucket) Remove(ctx context.Context, place, name string) error {
	at, err := b.at(ctx, place)
	if err != nil {
		return err
	}
	for v := range b.core.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: at.prefix + name, Recursive: true, WithVersions: true}) {
		if name != "" && v.Err == nil && v.Key != at.prefix+name {
			continue
		}
		err := v.Err
		if err == nil {
			err = b.core.RemoveObject(ctx, b.name, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID})
		}
		if err != nil {
			return at.fail("remove", name, err)
		}
	}
	return nil
}

// mutable are the names of files that are replaced as a log grows, and partial those that are dropped.
var (
	mutable = map[string]bool{audit.CheckpointFile: true, audit.CosignedFile: true, audit.KeyFile: true}
	partial = regexp.MustCompile(`\.p/[0-9]+$`)
	kept    = regexp.MustCompile(`^checkpoints/([0-9]+)$`)
	tiles   = regexp.MustCompile(`^(tile|checkpoints)/`)
)

// maxOverwritten is how many files Overwritten lists.
const maxOverwritten = 100

// Overwritten implements [Destination].
func (b *Bucket) Overwritten(ctx context.Context, origin string) ([]string, error) {
	at, err := b.at(ctx, origin)
	if err != nil {
		return nil, err
	}
	var found []string
	last, newest := "", uint64(0)
	for v := range b.core.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: at.prefix, Recursive: true, WithVersions: true}) {
		if v.Err != nil {
			return nil, at.fail("list", "", v.Err)
		}
		name := strings.TrimPrefix(v.Key, at.prefix)
		if !mutable[name] && !tiles.MatchString(name) { // of the log that was begun in place of this one
			continue
		}
		if m := kept.FindStringSubmatch(name); m != nil {
			size, err := strconv.ParseUint(m[1], 10, 64)
			if err == nil {
				newest = max(newest, size)
			}
		}
		switch {
		case len(found) == maxOverwritten || partial.MatchString(name):
		case v.IsDeleteMarker:
			found = append(found, fmt.Sprintf("%s was deleted on %s", name, v.LastModified.UTC().Format(time.DateTime)))
		case name == last && !mutable[name]:
			found = append(found, fmt.Sprintf("%s was written over: the version %s of %s is an earlier one", name, v.VersionID, v.LastModified.UTC().Format(time.DateTime)))
		}
		if !v.IsDeleteMarker {
			last = name
		}
	}
	now, _, err := at.get(ctx, audit.CheckpointFile, "", audit.MaxSmall)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if lines := strings.Split(string(now), "\n"); len(lines) > 1 {
		if size, err := strconv.ParseUint(lines[1], 10, 64); err == nil && size < newest {
			found = append(found, fmt.Sprintf("%s is of %d records, and checkpoints/%d was published before it: it was written over with an older one", audit.CheckpointFile, size, newest))
		}
	}
	return found, nil
}

// inBucket is the place of one log in a bucket.
type inBucket struct {
	*Bucket
	prefix string
	keep   time.Time
	read   map[string]string // the ETag of what was read of a file that is to be replaced; empty if it was not there
}

// code is by which a service says what is the matter.
func code(err error) string { return minio.ToErrorResponse(err).Code }

// refused says that a write was not made because of its condition.
func refused(err error) bool {
	status := minio.ToErrorResponse(err).StatusCode
	return status == http.StatusPreconditionFailed || status == http.StatusConflict
}

func (p *inBucket) fail(verb, name string, err error) error {
	return fmt.Errorf("%s s3://%s/%s%s: %w", verb, p.name, p.prefix, name, err)
}

// get reads an object; version may be empty.
func (p *inBucket) get(ctx context.Context, name, version string, limit int) (data []byte, etag string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	body, info, _, err := p.core.GetObject(ctx, p.Bucket.name, p.prefix+name, minio.GetObjectOptions{VersionID: version})
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(body, int64(limit)+1))
		err = cmp.Or(err, body.Close())
	}
	switch {
	case code(err) == minio.NoSuchKey:
		return nil, "", p.fail("read", name, fs.ErrNotExist)
	case err != nil:
		return nil, "", p.fail("read", name, err)
	case len(data) > limit:
		return nil, "", p.fail("read", name, errors.New("the file is too large"))
	}
	return data, info.ETag, nil
}

// Read implements [audit.Place].
func (p *inBucket) Read(ctx context.Context, name string, limit int) ([]byte, error) {
	data, etag, err := p.get(ctx, name, "", limit)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		p.read[name] = etag
	}
	return data, err
}

// maxFile is more than the largest bundle has.
const maxFile = 32 << 20

// condition is under which something is written.
type condition struct {
	absent bool   // only if nothing is there
	etag   string // only over this
}

// put writes a version of an object, locked if it is not to change.
func (p *inBucket) put(ctx context.Context, name string, data []byte, c condition) (minio.UploadInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	var o minio.PutObjectOptions
	if c.absent {
		o.SetMatchETagExcept("*")
	} else if c.etag != "" {
		o.SetMatchETag(c.etag)
	}
	if !mutable[name] && !partial.MatchString(name) && !p.keep.IsZero() {
		o.Mode, o.RetainUntilDate = p.lock, p.keep.UTC()
	}
	o.ContentType, o.DisableContentSha256 = "application/octet-stream", true // which means: not in chunks, but with the sum given here
	short, long := md5.Sum(data), sha256.Sum256(data)                        //nolint:gosec // as above
	return p.core.PutObject(ctx, p.Bucket.name, p.prefix+name, bytes.NewReader(data), int64(len(data)), base64.StdEncoding.EncodeToString(short[:]), hex.EncodeToString(long[:]), o)
}

// Create implements [audit.Place].
func (p *inBucket) Create(ctx context.Context, name string, data []byte) error {
	_, err := p.put(ctx, name, data, condition{absent: true})
	if !refused(err) {
		return p.written(name, err)
	}
	there, _, err := p.get(ctx, name, "", maxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it was deleted, and its service takes that for being there
		_, err = p.put(ctx, name, data, condition{})
		return p.written(name, err)
	case err != nil:
		return err
	case !bytes.Equal(there, data):
		return p.fail("create", name, errors.New("it is there already and differs"))
	}
	return nil
}

// Replace implements [audit.Place].
func (p *inBucket) Replace(ctx context.Context, name string, data []byte) error {
	etag, known := p.read[name]
	if !known {
		if _, err := p.Read(ctx, name, audit.MaxSmall); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		etag = p.read[name]
	}
	_, err := p.put(ctx, name, data, condition{absent: etag == "", etag: etag})
	if !refused(err) {
		return p.written(name, err)
	}
	there, _, err := p.get(ctx, name, "", audit.MaxSmall)
	switch {
	case errors.Is(err, fs.ErrNotExist) && etag == "":
		_, err = p.put(ctx, name, data, condition{})
		return p.written(name, err)
	case err != nil:
		return err
	case !bytes.Equal(there, data): // an attempt whose answer was lost has written the same
		return errBusy
	}
	return nil
}

func (p *inBucket) written(name string, err error) error {
	if err != nil {
		return p.fail("write", name, err)
	}
	delete(p.read, name)
	return nil
}

// Settle implements [audit.Place]: what a service has confirmed is safe.
func (*inBucket) Settle() error { return nil }

// Drop implements [audit.Place]. What is dropped is no longer shown; its versions go when the bucket's own rules say so.
func (p *inBucket) Drop(ctx context.Context, full string) error {
	ctx, cancel := context.WithTimeout(ctx, bucketTimeout)
	defer cancel()
	for v := range p.core.ListObjectsIter(ctx, p.Bucket.name, minio.ListObjectsOptions{Prefix: p.prefix + full + ".p/", Recursive: true}) {
		err := v.Err
		if err == nil {
			err = p.core.RemoveObject(ctx, p.Bucket.name, v.Key, minio.RemoveObjectOptions{})
		}
		if err != nil {
			return p.fail("drop", full+".p", err)
		}
	}
	return nil
}

// bucketFS shows a place as files, each read whole.
type bucketFS struct {
	ctx   context.Context
	place *inBucket
}

// Open implements [fs.FS].
func (b bucketFS) Open(name string) (fs.File, error) {
	data, _, err := b.place.get(b.ctx, name, "", maxFile)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return file{bytes.NewReader(data), path.Base(name)}, nil
}

// file is one that was read.
type file struct {
	*bytes.Reader
	name string
}

func (f file) Stat() (fs.FileInfo, error) { return f, nil }
func (f file) Close() error               { return nil }
func (f file) Name() string               { return f.name }
func (f file) Mode() fs.FileMode          { return 0o444 }
func (f file) ModTime() time.Time         { return time.Time{} }
func (f file) IsDir() bool                { return false }
func (f file) Sys() any                   { return nil }
