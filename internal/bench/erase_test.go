package bench

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"net/http/httptest"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/control"
	"counterfoil/internal/pg"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
)

var conversations = flag.Int("conversations", 1_000_000, "how many ended conversations the organisation has from which somebody is erased")

const (
	saidName  = "Vera Zyxwvutsrq"
	saidEmail = "vera@zyxwvutsrq.example"
	saidText  = "my order Zyxwvutsrq has not come"
	planted   = "Zyxwvutsrq was planted here"
	// sayEach is how often visitors write meanwhile.
	sayEach = 10 * time.Millisecond
)

// BenchmarkErase has a visitor and an agent erased who stand in many of an organisation's conversations, and retention asked and applied, while visitors
// write. It says how long each takes, how much memory, and what those who write notice: the time to a durable message, beside the same while nothing runs.
// The certificate is verified with nothing but the key; at the end none of what the visitor said lies in any file of the database.
func BenchmarkErase(b *testing.B) {
	w := newWorld(b, 1)
	o := w.organisations[0]
	ctx := b.Context()
	teams := httptest.NewServer(&connector{arrived: make(map[string]time.Time)})
	defer teams.Close()
	sessions, _ := w.deliverTo(b, teams)

	opened, err := w.relay.Open(ctx, relay.OpenRequest{Widget: o.widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive(saidText), Name: euii.Receive(saidName), Email: euii.Receive(saidEmail)})
	must(b, err)
	his, err := w.relay.Session(ctx, opened.Token)
	must(b, err)
	must(b, w.join(ctx, o, his, "agent0", teams.URL+"/teams/"))
	_, err = w.relay.VisitorEnds(ctx, his)
	must(b, err)
	var agents []uuid.UUID
	for i := range 8 { // and then none of their chats is open
		a, err := w.store.AgentByDirectory(ctx, o.ID, fmt.Sprintf("aad-agent%d", i))
		must(b, err)
		agents = append(agents, a.ID)
		_, err = w.relay.VisitorEnds(ctx, sessions[i])
		must(b, err)
	}
	sessions = sessions[8:]
	begun := time.Now()
	must(b, relaytest.Past{Organisation: o.ID, Widget: o.widget.ID, Visitor: his.Visitor, Agents: agents, Conversations: *conversations, Days: 395}.Make(ctx, w.admin))
	var size string
	must(b, w.admin.QueryRow(ctx, "select pg_size_pretty(pg_database_size(current_database()))").Scan(&size))
	b.Logf("%d conversations made in %s; the database has %s", *conversations, time.Since(begun).Round(time.Second), size)
	var name string
	must(b, w.admin.QueryRow(ctx, "select current_database()").Scan(&name))
	erase, err := pg.Open(ctx, pg.Config{URL: server.cluster.URL("counterfoil_retention", name), MaxConns: 1, TracerProvider: noop.NewTracerProvider()})
	must(b, err)
	defer erase.Close()
	desk, operator := control.New(w.pool, erase, w.gate), principal.NewOperator(o.ID, "ops")
	var backend int
	must(b, erase.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend))

	b.ReportMetric(0, "ns/op")
	for b.Loop() {
		idle := w.beside(b, sessions, func() { time.Sleep(10 * time.Second) })
		b.ReportMetric(idle.ms(0.99), "idle-p99-ms")
		during := func(what string, do func() error) {
			b.Helper()
			forgetPeak("self")
			var took time.Duration
			said := w.beside(b, sessions, func() {
				begun := time.Now()
				must(b, do())
				took = time.Since(begun)
			})
			b.Logf("%-22s %8s, messages p99 %.1f ms (%.2f x idle) of %d, peak of this process %d MB, of its backend %d MB", what, took.Round(10*time.Millisecond), said.ms(0.99), said.ms(0.99)/idle.ms(0.99), len(said.latencies), peak("self"), peak(strconv.Itoa(backend)))
			b.ReportMetric(took.Seconds(), what+"-s")
			if len(said.latencies) > 200 { // of fewer there is no 99th
				b.ReportMetric(said.ms(0.99)/idle.ms(0.99), what+"-x/idle-p99")
			}
		}
		visitor := control.Subject{Organisation: o.ID, Kind: "visitor", ID: his.Visitor}
		during("dry-run", func() error {
			r, err := desk.Kept(ctx, visitor)
			if err == nil && r.Total() < int64(*conversations)/10 {
				err = fmt.Errorf("of him is kept %+v", r)
			}
			return err
		})
		for _, s := range []control.Subject{visitor, {Organisation: o.ID, Kind: "agent", ID: agents[0]}} {
			during("erase-"+s.Kind, func() error {
				e, err := desk.Erase(ctx, operator, s, access.Grounds{})
				if err == nil {
					err = w.certified(ctx, o, e)
				}
				return err
			})
		}
		during("what-if", func() error {
			for _, class := range control.Classes() {
				if _, err := desk.WhatIf(ctx, o.ID, class, 90); err != nil {
					return err
				}
			}
			return nil
		})
		for class, days := range map[string]int{"transcript": 200, "agent": 300, "visitor": 350, "conversation": 365} {
			must(b, desk.SetRetention(ctx, operator, o.ID, class, days, time.Time{}, access.Grounds{}))
		}
		var run control.Run
		during("retention", func() (err error) { run, err = desk.Apply(ctx, o.ID, false, nil); return err })
		b.Logf("went %v", run.Gone)
		w.nothingOf(b, his.Visitor)
	}
}

// beside has visitors write while do does something.
func (w *world) beside(b *testing.B, sessions []relay.Session, do func()) *sample {
	b.Helper()
	var said sample
	var mu sync.Mutex
	var calls sync.WaitGroup
	done := make(chan struct{})
	calls.Go(func() {
		tick := time.NewTicker(sayEach)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			calls.Go(func() {
				at := time.Now()
				_, err := w.relay.VisitorSays(b.Context(), sessions[i%len(sessions)], uuid.New(), euii.Receive("are you still there?"))
				mu.Lock()
				defer mu.Unlock()
				if said.latencies = append(said.latencies, time.Since(at)); err != nil {
					b.Error(err)
				}
			})
		}
	})
	do()
	close(done)
	calls.Wait()
	return &said
}

// certified verifies the certificate of an erasure with nothing but the key of the log.
func (w *world) certified(ctx context.Context, o organisation, e control.Erasure) error {
	file, err := w.log.Certificate(ctx, o.ID, *e.Certificate)
	if err != nil {
		return err
	}
	key, err := w.log.VerifierKey(o.Origin)
	if err != nil {
		return err
	}
	c, err := audit.ReadCertificate(bytes.NewReader(file))
	if err != nil {
		return err
	}
	record, _, err := c.Verify(key)
	if err == nil && record.Facts["erasure.id"] != e.ID.String() {
		err = fmt.Errorf("another erasure is certified: %v", record.Facts)
	}
	return err
}

// nothingOf looks through every file of the server, after the time that is documented, for what the visitor said and was called: it is not there, and
// what is planted is.
func (w *world) nothingOf(b *testing.B, visitor uuid.UUID) {
	b.Helper()
	ctx := b.Context()
	var name string
	must(b, w.admin.QueryRow(ctx, "select current_database()").Scan(&name))
	for _, sql := range []string{"vacuum euii.key, euii.value, chat.event, chat.conversation", "checkpoint", "select pg_switch_wal()", "checkpoint",
		"insert into floor.audit (organisation_id, body) values (gen_random_uuid(), '" + planted + "')", "checkpoint"} {
		_, err := w.admin.Exec(ctx, sql)
		must(b, err)
	}
	found := make(map[string]int)
	var total int64
	must(b, filepath.WalkDir(server.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // the server removed it meanwhile
		}
		n, err := searchFile(path, []string{saidName, saidEmail, saidText, "Zyxwvutsrq has", planted}, found)
		total += n
		return err
	}))
	b.Logf("%d MB searched: %v", total>>20, found)
	if found[planted] == 0 {
		b.Error("what was planted is not found")
	}
	for _, secret := range []string{saidName, saidEmail, saidText, "Zyxwvutsrq has"} {
		if found[secret] > 0 {
			b.Errorf("%q lies in %d places", secret, found[secret])
		}
	}
}

// searchFile counts in how many places of a file texts stand.
func searchFile(path string, texts []string, found map[string]int) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil //nolint:nilerr // the server removed it meanwhile
	}
	defer f.Close()
	const overlap = 256
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := f.Read(buf[kept:])
		size += int64(n)
		for _, text := range texts {
			found[text] += bytes.Count(buf[:kept+n], []byte(text))
		}
		if err != nil {
			return size, nil //nolint:nilerr // the end, or gone
		}
		end := kept + n
		kept = min(overlap, end)
		copy(buf, buf[end-kept:end])
	}
}

// forgetPeak lets the peak of a process's memory begin anew.
func forgetPeak(pid string) {
	_ = os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0) // where it cannot be, the peak is that of its whole life
}

// peak is the most memory that a process had, in MB.
func peak(pid string) int {
	f, err := os.Open("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb >> 10
		}
	}
	return 0
}
