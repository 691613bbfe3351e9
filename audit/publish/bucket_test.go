package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/audit/publish/buckettest"
)

func TestABucketKeepsWhatIsPutIntoIt(t *testing.T) {
	buckettest.Run(t, buckettest.Serve(t).Target)
}

// withBucket is a publisher to a bucket of a service that the test can meddle with.
func (p *place) withBucket(t *testing.T) (*buckettest.Server, *publish.Publisher) {
	t.Helper()
	s := buckettest.Serve(t)
	buckettest.MakeBuckets(t, s.Target)
	return s, p.toBucket(t, s, buckettest.Locked)
}

// toBucket is what another node, or the same after a start, has.
func (p *place) toBucket(t *testing.T, s *buckettest.Server, name string) *publish.Publisher {
	t.Helper()
	return p.publisher(func(c *publish.Config) { c.To = buckettest.Open(t, s.Target, name) })
}

// inBucket verifies what lies in the bucket.
func (p *place) inBucket(t *testing.T, n *publish.Publisher, want uint64) {
	t.Helper()
	v := n.Verify(t.Context(), p.origin, audit.Options{})
	must(t, v.Err)
	if len(v.Report.Faults) > 0 || len(v.Overwritten) > 0 || v.Report.Records != want {
		t.Fatalf("%d records are in the bucket, not %d: %v, %q", v.Report.Records, want, v.Report.Faults, v.Overwritten)
	}
}

func TestALogIsPublishedToABucketAsItGrows(t *testing.T) {
	p := newPlace(t)
	s, n := p.withBucket(t)
	total := uint64(0)
	for _, more := range []int{0, 1, 254, 1, 1, 100} {
		if more > 0 {
			p.grow(t, more)
		}
		total += uint64(more)
		must(t, n.Publish(t.Context()))
		must(t, n.Standing(t.Context(), p.organisation, true))
		p.inBucket(t, n, total)
	}
	s.Meddle(func(*http.Request) buckettest.Fault {
		t.Error("nothing new, but something is asked")
		return buckettest.None
	})
	must(t, n.Publish(t.Context()))
	s.Meddle(nil)
	// Two nodes at once.
	second := p.toBucket(t, s, buckettest.Locked)
	for range 10 {
		p.grow(t, 30)
		total += 30
		failed := make(chan error)
		go func() { failed <- second.Publish(t.Context()) }()
		must(t, n.Publish(t.Context()))
		must(t, <-failed)
	}
	must(t, n.Publish(t.Context()))
	p.inBucket(t, n, total)
}

func TestARestoredBackupIsFoundByWhatABucketHolds(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, p *place, c *minio.Core){
		"as it is": func(*testing.T, *place, *minio.Core) {},
		"though the checkpoint in it was deleted": func(t *testing.T, p *place, c *minio.Core) {
			for _, name := range []string{audit.CheckpointFile, audit.KeyFile} {
				must(t, c.RemoveObject(t.Context(), buckettest.Locked, p.origin+"/"+name, minio.RemoveObjectOptions{}))
			}
		},
		"though an older checkpoint was put over it": func(t *testing.T, p *place, c *minio.Core) {
			head, err := p.log.Head(t.Context(), p.organisation) // of the backup
			must(t, err)
			must(t, buckettest.Put(t, c, p.origin+"/"+audit.CheckpointFile, head.Checkpoint, minio.PutObjectOptions{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			s, n := p.withBucket(t)
			p.grow(t, 200)
			must(t, n.Publish(t.Context()))
			restore := p.backup(t)
			p.grow(t, 100)
			must(t, n.Publish(t.Context()))
			restore()
			meddle(t, p, buckettest.Client(t, s.Target))
			fresh := p.toBucket(t, s, buckettest.Locked)
			want := "300 records were published and the database has 200"
			if err := fresh.Standing(t.Context(), p.organisation, false); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
			must(t, fresh.Publish(t.Context()))
			if problems, of := fresh.Problems(t.Context()); len(problems) != 1 || of != 1 {
				t.Errorf("%v of %d", problems, of)
			}
			if told := strings.Contains(p.said.String(), "deleted or written over by somebody else"); told != (name != "as it is") {
				t.Errorf("told is %s", &p.said)
			}
			n.Forget(p.organisation) // a recovery makes every publisher look again
			if err := n.Standing(t.Context(), p.organisation, false); !errors.Is(err, publish.ErrFrozen) {
				t.Errorf("%v", err)
			}
		})
	}
}

// What was changed in the bucket though the log is good is told, and nothing is published over it.
func TestWhatIsChangedInABucketIsFoundAndTold(t *testing.T) {
	p := newPlace(t)
	s, n := p.withBucket(t)
	p.grow(t, 150)
	p.grow(t, 150)
	must(t, n.Publish(t.Context()))
	c := buckettest.Client(t, s.Target)
	must(t, c.RemoveObject(t.Context(), buckettest.Locked, p.origin+"/checkpoint", minio.RemoveObjectOptions{}))
	must(t, buckettest.Put(t, c, p.origin+"/tile/0/000", make([]byte, 256*32), minio.PutObjectOptions{}))
	n = p.toBucket(t, s, buckettest.Locked)
	p.grow(t, 10)
	must(t, n.Standing(t.Context(), p.organisation, true))
	if !strings.Contains(p.said.String(), "deleted or written over by somebody else") {
		t.Errorf("told is %s", &p.said)
	}
	if err := n.Publish(t.Context()); err == nil || !strings.Contains(err.Error(), "tile/0/000: it is there already and differs") {
		t.Errorf("%v", err)
	}
	v := n.Verify(t.Context(), p.origin, audit.Options{})
	if v.Err == nil || !strings.Contains(v.Err.Error(), "checkpoint") {
		t.Errorf("without a checkpoint there is something to verify: %v", v.Err)
	}
	changed, err := n.To.Overwritten(t.Context(), p.origin)
	if all := strings.Join(changed, "\n"); err != nil || !strings.Contains(all, "checkpoint was deleted") || !strings.Contains(all, "tile/0/000 was written over") {
		t.Errorf("%q, %v", changed, err)
	}
}

// Each request of a publication in turn is refused, done without an answer, or never arrives. The next publication completes it.
func TestWhereverPublishingToABucketBreaksOff(t *testing.T) {
	for fault, name := range map[buckettest.Fault]string{buckettest.Refused: "refused", buckettest.Lost: "lost after it was done", buckettest.Gone: "gone"} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			s, n := p.withBucket(t)
			p.grow(t, 250)
			must(t, n.Publish(t.Context()))
			total := uint64(250)
			for at := 0; ; at++ {
				p.grow(t, 7)
				total += 7
				p.clock += time.Minute // so that the checkpoint is kept too
				seen, writes := 0, false
				s.Meddle(func(r *http.Request) buckettest.Fault {
					if seen++; seen == at+1 {
						writes = r.Method == http.MethodPut
						return fault
					}
					return buckettest.None
				})
				err := n.Publish(t.Context())
				s.Meddle(nil)
				if fault == buckettest.Refused && err == nil && writes {
					t.Errorf("the request %d was refused, and nothing is said", at)
				}
				must(t, n.Standing(t.Context(), p.organisation, true))
				must(t, n.Publish(t.Context()))
				p.inBucket(t, n, total)
				if seen <= at {
					if at < 6 {
						t.Errorf("a publication takes %d requests only", seen)
					}
					return
				}
			}
		})
	}
}

func TestWithABucketThatCannotBeAskedNothingBegins(t *testing.T) {
	p := newPlace(t)
	s, n := p.withBucket(t)
	p.grow(t, 3)
	must(t, n.Publish(t.Context()))
	for name, c := range map[string]struct {
		begin func(*publish.Publisher) *publish.Publisher
		end   func()
		want  string
	}{
		"it is gone": {func(n *publish.Publisher) *publish.Publisher {
			s.Meddle(func(*http.Request) buckettest.Fault { return buckettest.Gone })
			return n
		}, func() { s.Meddle(nil) }, "onnection"},
		"it refuses us": {func(n *publish.Publisher) *publish.Publisher {
			s.Meddle(func(*http.Request) buckettest.Fault { return buckettest.Refused })
			return n
		}, func() { s.Meddle(nil) }, "AccessDenied"},
		"its clock is ahead": {func(n *publish.Publisher) *publish.Publisher { s.Skew(time.Hour); return n }, func() { s.Skew(0) }, "set this host's clock"},
		"its clock is late":  {func(n *publish.Publisher) *publish.Publisher { s.Skew(-time.Hour); return n }, func() { s.Skew(0) }, "set this host's clock"},
		"it keeps nothing":   {func(*publish.Publisher) *publish.Publisher { return p.toBucket(t, s, buckettest.Plain) }, nil, "it keeps no versions"},
	} {
		fresh := c.begin(p.toBucket(t, s, buckettest.Locked))
		if err := fresh.Standing(t.Context(), p.organisation, false); !errors.Is(err, publish.ErrUnseen) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if problems, of := fresh.Problems(t.Context()); len(problems) != 1 || of != 1 || !errors.Is(problems[0].Reason, publish.ErrUnseen) {
			t.Errorf("%s: %v of %d", name, problems, of)
		}
		if c.end == nil {
			continue
		}
		p.grow(t, 1)
		if err := n.Publish(t.Context()); err == nil {
			t.Errorf("%s: something was published", name)
		}
		must(t, n.Standing(t.Context(), p.organisation, true)) // what runs goes on
		c.end()
		must(t, n.Publish(t.Context()))
		must(t, fresh.Standing(t.Context(), p.organisation, false))
		if problems, _ := fresh.Problems(t.Context()); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

func TestADestinationThatIsGoneKeepsNobodyFromPublishingElsewhere(t *testing.T) {
	p := newPlace(t)
	s, n := p.withBucket(t)
	all := publish.Publishers{p.publisher(nil), n}
	p.grow(t, 3)
	for _, one := range all {
		must(t, one.Publish(t.Context()))
	}
	must(t, all.Standing(t.Context(), p.organisation, true))
	s.Meddle(func(*http.Request) buckettest.Fault { return buckettest.Gone })
	p.grow(t, 3)
	must(t, all[0].Publish(t.Context()))
	if r := p.published(t); r.Records != 6 {
		t.Errorf("%d records", r.Records)
	}
	must(t, all.Standing(t.Context(), p.organisation, true))
	all.Forget(p.organisation)
	if err := all.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrUnseen) {
		t.Errorf("begun while one destination cannot be asked: %v", err)
	}
	s.Meddle(nil)
	must(t, all.Standing(t.Context(), p.organisation, true))
	// What one of them knows against the log counts.
	must(t, os.WriteFile(filepath.Join(p.root, p.origin, "checkpoint"), []byte("x\n"), 0o644))
	all.Forget(p.organisation)
	if err := all.Standing(t.Context(), p.organisation, true); !errors.Is(err, publish.ErrFrozen) {
		t.Errorf("%v", err)
	}
	if problems, of := all.Problems(t.Context()); len(problems) != 1 || of != 1 {
		t.Errorf("%v of %d", problems, of)
	}
	published, err := all.Published(t.Context(), p.origin)
	must(t, err)
	if len(published) != 2 || string(published[0].Checkpoint) != "x\n" || !strings.Contains(string(published[1].Checkpoint), "\n3\n") || published[1].Where != fmt.Sprintf("s3://%s/%s", buckettest.Locked, p.origin) {
		t.Errorf("%+v", published)
	}
}

// A bucket is far away: many logs are not published one after another.
func TestManyLogsAreOnTheirWayAtOnce(t *testing.T) {
	p := newPlace(t)
	s, n := p.withBucket(t)
	p.grow(t, 1)
	for range 20 {
		p.organisation = p.organise(t)
		p.grow(t, 1)
	}
	var mu sync.Mutex
	now, most := 0, 0
	s.Meddle(func(*http.Request) buckettest.Fault {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		now--
		mu.Unlock()
		return buckettest.None
	})
	must(t, n.Publish(t.Context()))
	if most < 2 || most > 8 {
		t.Errorf("%d requests were under way at once", most)
	}
	if problems, of := n.Problems(t.Context()); len(problems) > 0 || of != 21 {
		t.Errorf("%v of %d", problems, of)
	}
	s.Meddle(nil)
	p.origin = origin(p.organisation)
	p.inBucket(t, n, 1)
}
