package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"counterfoil/audit/publish/buckettest"
)

// withBucket makes the program publish to a bucket of s as well.
func (h *host) withBucket(s buckettest.Target, name string) {
	h.t.Helper()
	credentials := filepath.Join(filepath.Dir(h.data), "bucket.credentials")
	if err := os.WriteFile(credentials, []byte(s.KeyID+"\n"+s.Secret+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.env = append(h.env, "COUNTERFOIL_PUBLISH_BUCKET="+name, "COUNTERFOIL_PUBLISH_BUCKET_ENDPOINT="+s.Endpoint, "COUNTERFOIL_PUBLISH_BUCKET_CREDENTIALS_FILE="+credentials)
}

// The database and the directory are put back to an older state together: only the bucket knows better.
func TestWhatLiesInABucketOutlastsTheHost(t *testing.T) {
	t.Parallel()
	h, s := newHost(t), buckettest.Serve(t)
	buckettest.MakeBuckets(t, s.Target)
	h.withBucket(s.Target, buckettest.Plain)
	h.run("alice", 3, "it keeps no versions. Turn on versioning and object lock", "serve", "--demo")
	h.env = h.env[:len(h.env)-3]
	h.withBucket(s.Target, buckettest.Locked)

	backup := filepath.Join(filepath.Dir(h.data), "backup")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	h.stop(r)
	h.copy(h.data, backup)
	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	h.stop(r)
	out := h.run("alice", 0, "s3://locked/localhost/audit/", "audit", "verify", "--published")
	if n := strings.Count(out, "The log is good"); n != 2 {
		t.Errorf("%d of the directory and the bucket are good:\n%s", n, out)
	}
	h.copy(backup, h.data)
	h.run("alice", 3, "it was put back to an older state", "audit", "list")
	out = h.run("alice", 0, "no record in it is lost", "audit", "recover")
	code := regexp.MustCompile(`--code (\w+)`).FindStringSubmatch(out)
	if code == nil {
		t.Fatalf("no code:\n%s", out)
	}
	h.run("bob", 0, "/2. The old one is kept", "audit", "recover", "--code", code[1])
	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusCreated {
		t.Errorf("after the recovery a visitor gets %d\n%s", status, r.stderr)
	}
	h.stop(r)
	h.run("alice", 0, "The log is good", "audit", "verify", "--published")
	h.run("alice", 0, "s3://locked/localhost/audit/", "audit", "verify", "--published", "--epoch", "1")

	// Somebody with the credentials writes over what is published.
	c := buckettest.Client(t, s.Target)
	for o := range c.ListObjectsIter(t.Context(), buckettest.Locked, minio.ListObjectsOptions{Prefix: "localhost/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if strings.Contains(o.Key, "/2/checkpoints/") {
			if err := buckettest.Put(t, c, o.Key, []byte("x"), minio.PutObjectOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.run("alice", 1, "was written over", "audit", "verify", "--published")

	// While it cannot be asked, nothing begins.
	s.Meddle(func(*http.Request) buckettest.Fault { return buckettest.Gone })
	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusServiceUnavailable {
		t.Errorf("a visitor gets %d", status)
	}
	notReady(t, r, "the log cannot be compared with what was published of it.")
	s.Meddle(nil)
	eventually(t, func() string {
		if status := open(ctx, t, r); status != http.StatusCreated {
			return http.StatusText(status)
		}
		return ""
	})
	h.stop(r)
}
