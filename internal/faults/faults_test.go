package faults

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
)

var soak = flag.Duration("for", 0, "go on with new rounds for so long; the first is always made")

func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		if err := beNode(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if code, err := inOwnNamespace(); err == nil {
		os.Exit(code)
	}
	os.Exit(pgtest.Run(m))
}

const (
	// recovery is how long after the repair a node may take to disclose again.
	recovery = 20 * time.Second
	// patience is how long a fault may take to show.
	patience = 20 * time.Second
	// cuts is how many connections are cut at least in one strike.
	cuts = 3
)

// fault is something that breaks below the readers.
type fault struct {
	name    string
	forbids bool                                    // while it lasts, nothing can be recorded
	solo    bool                                    // one node works alone, so that it knows the head of the log without locking it
	rested  bool                                    // it strikes while nobody asks, so that those who ask then do not queue behind earlier ones
	cause   string                                  // that refusals must give, as proof that the fault was there; empty when none need be refused
	lasts   time.Duration                           // at least; a fault that forbids, until something was refused that was asked for meanwhile
	strike  func(*world) (heal func() (struck int)) // nil when nothing is to break
}

// cutting cuts connections of both nodes around one step.
func cutting(s step, c cut) fault {
	cause := "connection"
	if c != lost && (s == recordAlone || s == recordLocked || s == commit) {
		cause = "" // what was recorded is found and released
	}
	return fault{name: fmt.Sprintf("connection lost at %s: %s", s, c), solo: s == recordAlone, cause: cause,
		strike: func(w *world) func() int {
			t := &trap{step: s, cut: c}
			for _, n := range w.nodes {
				n.proxy.trap.Store(t)
			}
			return func() int {
				for begun := time.Now(); t.cuts.Load() < cuts && time.Since(begun) < patience; {
					time.Sleep(10 * time.Millisecond)
				}
				for _, n := range w.nodes {
					n.proxy.trap.Store(nil)
				}
				return int(t.cuts.Load())
			}
		}}
}

// statements breaks the database by statements of a superuser and mends it by others.
func statements(name, cause string, broken, mended []string, anew bool) fault {
	return fault{name: name, forbids: true, cause: cause, lasts: 100 * time.Millisecond, strike: func(w *world) func() int {
		w.do(broken...)
		if anew {
			w.disconnect()
		}
		return func() int {
			w.do(mended...)
			if anew {
				w.disconnect()
			}
			return 1
		}
	}}
}

// killing ends PostgreSQL by a signal and starts it again.
func killing(name string, sig syscall.Signal) fault {
	return fault{name: name, forbids: true, cause: "connection", lasts: 100 * time.Millisecond, strike: func(w *world) func() int {
		time.Sleep(rand.N(200 * time.Millisecond))
		must(w.t, w.db.Cluster().Kill(sig))
		return func() int {
			must(w.t, w.db.Cluster().Restart(w.t.Context()))
			return 1
		}
	}}
}

// repeating strikes every so often, beside the callers; it may miss.
func repeating(name, cause string, every time.Duration, hit func(*world) bool) fault {
	return fault{name: name, cause: cause, lasts: 800 * time.Millisecond, strike: func(w *world) func() int {
		stop, done := make(chan struct{}), make(chan struct{})
		var struck atomic.Int64
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(rand.N(every)):
				}
				if hit(w) {
					struck.Add(1)
				}
			}
		}()
		return func() int {
			for begun := time.Now(); struck.Load() == 0 && time.Since(begun) < patience; {
				time.Sleep(10 * time.Millisecond)
			}
			close(stop)
			<-done
			return int(struck.Load())
		}
	}}
}

// What a superuser asks for; each gives one row.
const (
	sqlBusy      = "select pid from pg_stat_activity where usename = '" + serviceRole + "' and state <> 'idle' order by random() limit 1"
	sqlTerminate = "select pid from (" + sqlBusy + ") as busy where pg_terminate_backend(pid)"
	sqlWriter    = "select pid from pg_stat_activity where backend_type = 'walwriter'"
)

func terminate(w *world) bool {
	_, err := w.pid(sqlTerminate)
	return err == nil
}

// killBackend kills a busy process of PostgreSQL, which makes the server end all others and recover.
func killBackend(w *world) bool {
	before, err := w.pid(sqlWriter)
	if err != nil {
		return false
	}
	pid, err := w.pid(sqlBusy)
	return err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil && w.recovered(before)
}

// recovered waits until PostgreSQL has begun anew and has another process to write what was committed.
func (w *world) recovered(before int) bool {
	for begun := time.Now(); time.Since(begun) < recovery; time.Sleep(10 * time.Millisecond) {
		if now, err := w.pid(sqlWriter); err == nil && now != before {
			return true
		}
	}
	return false
}

// The faults in the order of a round. Those with a case of the list of attacks bear its name: A1 the insert fails, A2 answers
// and records are compared, A3 a process is killed between commit and answer, D8 commits are no longer durable.
func faults() []fault {
	all := []fault{{name: "none (A2)", lasts: 500 * time.Millisecond}}
	for _, s := range []step{lockHead, recordLocked, commit, take, takeMessages, recordAlone} {
		for _, c := range []cut{lost, landed, unknown} {
			all = append(all, cutting(s, c))
		}
	}
	return append(all,
		repeating("connections ended by pg_terminate_backend", "57P01", 20*time.Millisecond, terminate),
		repeating("kill -9 of one backend of PostgreSQL (A3)", "", 600*time.Millisecond, killBackend),
		killing("kill -9 of PostgreSQL (A3)", syscall.SIGKILL),
		killing("immediate stop of PostgreSQL (A3)", syscall.SIGQUIT),
		fault{name: "kill -9 of a node (A3)", strike: killNode},
		fault{name: "head row locked by another session (A1)", forbids: true, rested: true, cause: "55P03", strike: lockTheHead},
		fault{name: "deadlock with another session (A1)", cause: "40P01", strike: deadlock},
		statements("database read-only (A1)", "25006",
			[]string{alterDatabase("set default_transaction_read_only = on")},
			[]string{"set default_transaction_read_only = off", alterDatabase("reset default_transaction_read_only")}, true),
		statements("synchronous_commit off for the role (D8)", "not durable",
			[]string{"alter role " + serviceRole + " set synchronous_commit = off"}, []string{"alter role " + serviceRole + " reset synchronous_commit"}, true),
		fault{name: "synchronous_commit off for the server, then a crash (D8)", lasts: 200 * time.Millisecond, strike: crashUnwritten},
		statements("table of the log renamed away (A1)", "42P01",
			[]string{"alter table audit.record rename to record_away"}, []string{"alter table audit.record_away rename to record"}, false),
		statements("right to record revoked from the service (A1)", "42501",
			[]string{"revoke execute on function access.record from " + serviceRole}, []string{"grant execute on function access.record to " + serviceRole}, false),
		statements("right to insert revoked from the functions (A1)", "42501",
			[]string{"revoke insert (organisation_id, seq, at, body) on audit.record from counterfoil_access"},
			[]string{"grant insert (organisation_id, seq, at, body) on audit.record to counterfoil_access"}, false),
		fault{name: "decision key replaced (A1)", forbids: true, cause: "42501", lasts: 100 * time.Millisecond, strike: func(w *world) func() int {
			w.installKey("x")
			return func() int { w.installKey("d"); return 1 }
		}},
		fault{name: "trigger so slow that the statement times out (A1)", forbids: true, rested: true, cause: "57014", strike: slowTrigger},
		fault{name: "no file may grow, by a limit of the process (A1)", cause: "XX000", lasts: 1500 * time.Millisecond, strike: limitFiles},
	)
}

// fullDisks are those faults that need a file system of our own.
func fullDisks() []fault {
	return []fault{
		{name: "disk of the data full, ENOSPC (A1)", cause: "53100", strike: filling("53100", 64<<10, func(w *world) disk { return w.data })},
		{name: "disk of the write-ahead log full, ENOSPC (A1)", cause: "connection", strike: filling("connection", 1<<20, func(w *world) disk { return w.wal })},
	}
}

// filling leaves a disk of PostgreSQL next to no room until something was refused because of it, and then gives it room again.
func filling(cause string, free uint64, which func(*world) disk) func(*world) func() int {
	return func(w *world) func() int {
		w.do("checkpoint") // what is not needed goes, so that new room is asked for
		from := time.Now()
		must(w.t, which(w).leave(free))
		return func() int {
			for time.Since(from) < patience && !w.refused(from, cause) {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(500 * time.Millisecond) // it goes on being full
			must(w.t, which(w).resize(roomy))
			w.upAgain()
			return 1
		}
	}
}

// onDisks moves PostgreSQL's data, and within it the write-ahead log, to file systems of their own.
func (w *world) onDisks() {
	w.t.Helper()
	w.do("alter system set wal_recycle = off") // a segment that is there already takes no new room
	conn := w.super()
	var dir string
	must(w.t, conn.QueryRow(w.t.Context(), "select current_setting('data_directory')").Scan(&dir))
	must(w.t, conn.Close(w.t.Context()))
	must(w.t, w.db.Cluster().Kill(syscall.SIGINT))
	var err error
	w.data, err = moveToDisk(dir)
	must(w.t, err)
	w.wal, err = moveToDisk(filepath.Join(dir, "pg_wal"))
	must(w.t, err)
	must(w.t, w.db.Cluster().Restart(w.t.Context()))
	w.t.Cleanup(func() {
		w.db.Cluster().Kill(syscall.SIGQUIT) //nolint:errcheck // it may have given up
		<-w.db.Cluster().Exited()
		must(w.t, errors.Join(w.wal.detach(), w.data.detach()))
	})
}

func alterDatabase(how string) string {
	return "do $$ begin execute format('alter database %I " + how + "', current_database()); end $$"
}

// pid gives the process that a superuser's statement finds; an error where it finds none, or nobody can be asked.
func (w *world) pid(sql string) (pid int, err error) {
	conn, err := pgx.Connect(w.t.Context(), w.db.URL(cluster.Superuser))
	if err != nil {
		return 0, err
	}
	defer conn.Close(w.t.Context()) //nolint:errcheck // nothing was written
	err = conn.QueryRow(w.t.Context(), sql).Scan(&pid)
	return pid, err
}

func lockTheHead(w *world) func() int {
	conn := w.super()
	_, err := conn.Exec(w.t.Context(), "begin; select * from audit.head for update")
	must(w.t, err)
	return func() int {
		must(w.t, conn.Close(w.t.Context()))
		return 1
	}
}

// deadlock waits for the head while a node holds it and waits for us. Our own patience is the longer one.
func deadlock(w *world) func() int {
	conn := w.super()
	for _, sql := range []string{"set deadlock_timeout = '20s'", "begin", "lock table audit.record in share row exclusive mode", "select pg_sleep(0.05)", "select * from audit.head for update"} {
		_, err := conn.Exec(w.t.Context(), sql)
		must(w.t, err)
	}
	return func() int {
		must(w.t, conn.Close(w.t.Context()))
		return 1
	}
}

// crashUnwritten turns synchronous_commit off under running connections and keeps PostgreSQL from writing what it then need not
// write at once, until it crashes.
func crashUnwritten(w *world) func() int {
	writer, err := w.pid(sqlWriter)
	must(w.t, err)
	w.do("alter system set synchronous_commit = off", "select pg_reload_conf()")
	must(w.t, syscall.Kill(writer, syscall.SIGSTOP))
	return func() int {
		must(w.t, syscall.Kill(writer, syscall.SIGKILL))
		if !w.recovered(writer) {
			w.t.Fatal("PostgreSQL does not recover")
		}
		w.do("alter system reset synchronous_commit", "select pg_reload_conf()")
		return 1
	}
}

func slowTrigger(w *world) func() int {
	w.do("create table public.slow ()", "insert into public.slow default values",
		`create function public.wait() returns trigger language plpgsql security definer as $$ begin
			while exists (select from public.slow) loop perform pg_sleep(0.02); end loop; return new; end $$`,
		"create trigger slow before insert on audit.record for each row execute function public.wait()")
	return func() int {
		w.do("delete from public.slow") // now whoever waits goes on
		w.do("drop function public.wait() cascade", "drop table public.slow")
		return 1
	}
}

// limitFiles starts PostgreSQL so that no file of its may grow much beyond where the log's stand: as on a full disk, first the
// table cannot be extended, then what is to be committed cannot be written. It needs no rights that an ordinary user lacks.
func limitFiles(w *world) func() int {
	conn := w.super()
	var size uint64
	must(w.t, conn.QueryRow(w.t.Context(), "select max(pg_relation_size(oid)) from pg_class, pg_switch_wal() where relnamespace = 'audit'::regnamespace and relkind = 'r'").Scan(&size))
	must(w.t, conn.Close(w.t.Context()))
	must(w.t, w.db.Cluster().Kill(syscall.SIGINT))
	var limit syscall.Rlimit
	must(w.t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	must(w.t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: min(size+128<<10, 8<<20), Max: limit.Max})) // the server inherits it
	err := w.db.Cluster().Restart(w.t.Context())
	must(w.t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	must(w.t, err)
	return func() int {
		if err := w.db.Cluster().Kill(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) { // it may have given up
			w.t.Fatal(err)
		}
		must(w.t, w.db.Cluster().Restart(w.t.Context()))
		return 1
	}
}

// killNode lets a process of its own take the place of the second node, and kills it while it works.
func killNode(w *world) func() int {
	w.quiet(w.nodes[1])
	w.lives++
	p := w.place
	p.Name = fmt.Sprintf("c%d", w.lives)
	c, err := startChild(p)
	must(w.t, err)
	select {
	case <-c.first:
		time.Sleep(rand.N(300 * time.Millisecond))
	case <-c.done:
	case <-time.After(recovery):
	}
	all, err := c.kill()
	if err == nil && len(all) == 0 {
		err = errors.New("a node that was started again does not disclose")
	}
	w.mu.Lock()
	w.seen.asked += len(all)
	w.seen.released = append(w.seen.released, all...)
	if err != nil {
		w.seen.wrong = append(w.seen.wrong, violation{p.Name, err.Error()})
	}
	w.mu.Unlock()
	return func() int {
		w.work(w.nodes[1])
		return 1
	}
}

// line is a line of the table.
type line struct {
	struck, asked, released, refused, unreleased int
	causes                                       map[string]int
	slowest                                      time.Duration // to recover
	violations                                   []violation
}

// turn lets a fault strike some times and looks at the log afterwards.
func (w *world) turn(f fault, strikes int) *line {
	l := &line{causes: make(map[string]int)}
	w.work(w.nodes[0])
	if !f.solo {
		w.work(w.nodes[1])
	} else if w.shared {
		time.Sleep(1200 * time.Millisecond) // until the other one believes that it is alone
	}
	w.shared = !f.solo
	var nothing []window
	for range strikes {
		heal := func() int { return 1 }
		if f.rested {
			w.quiet(w.nodes...)
		}
		if f.strike != nil {
			heal = f.strike(w)
		}
		from := time.Now()
		if f.rested {
			w.work(w.nodes...)
		}
		time.Sleep(f.lasts)
		if f.forbids {
			for time.Since(from) < patience && !w.refused(from, f.cause) {
				time.Sleep(time.Millisecond)
			}
			nothing = append(nothing, window{from, time.Now()})
		}
		l.struck += heal()
		healed := time.Now()
		for _, n := range w.nodes {
			for !n.paused && n.last.Load() < healed.UnixNano() {
				if time.Since(healed) > recovery {
					l.violations = append(l.violations, violation{n.name, fmt.Sprintf("discloses nothing %s after the repair", recovery)})
					break
				}
				time.Sleep(time.Millisecond)
			}
		}
		l.slowest = max(l.slowest, time.Since(healed))
	}
	w.quiet(w.nodes...)
	w.mu.Lock()
	seen := w.seen
	w.seen = account{}
	w.mu.Unlock()
	gained, bad := w.look()
	l.violations = slices.Concat(l.violations, seen.wrong, bad, w.checker.released(seen.released, nothing))
	l.asked, l.released, l.refused = seen.asked, len(seen.released), len(seen.refused)
	for _, r := range seen.refused {
		l.causes[r.cause]++
	}
	held := make(map[string]bool, len(seen.released))
	for _, r := range seen.released {
		held[r.Request] = true
	}
	for _, r := range gained {
		if !held[r.request] {
			l.unreleased++
		}
	}
	switch {
	case l.struck == 0:
		l.violations = append(l.violations, violation{"", "the fault was not put to the test: it did not strike"})
	case f.cause != "" && l.causes[f.cause] == 0:
		l.violations = append(l.violations, violation{"", fmt.Sprintf("the fault was not put to the test: no refusal is because of it, but of %v", l.causes)})
	case slices.ContainsFunc(nothing, func(n window) bool { return n.to.Sub(n.from) >= patience }):
		l.violations = append(l.violations, violation{"", "the fault was not put to the test: nothing was refused that was asked for while it lasted"})
	case f.strike == nil && l.unreleased > 0:
		l.violations = append(l.violations, violation{"", fmt.Sprintf("%d were recorded and not released, though nothing broke", l.unreleased)})
	}
	return l
}

// refused reports whether something was refused, for a cause, that was asked for after a time.
func (w *world) refused(from time.Time, cause string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.seen.refused, func(r refusal) bool { return r.cause == cause && r.began.After(from) })
}

// add counts a further turn of the same fault.
func (l *line) add(more *line) {
	l.struck, l.asked, l.released, l.refused, l.unreleased = l.struck+more.struck, l.asked+more.asked, l.released+more.released, l.refused+more.refused, l.unreleased+more.unreleased
	l.slowest = max(l.slowest, more.slowest)
	l.violations = append(l.violations, more.violations...)
	for c, n := range more.causes {
		l.causes[c] += n
	}
}

// table shows what became of the turns.
func table(all []fault, lines map[string]*line) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "strikes\tasked\treleased\trefused\tonly recorded\tviolations\trecovered in\t  fault, and why was refused\t")
	for _, f := range all {
		l := lines[f.name]
		if l == nil {
			continue
		}
		why := ""
		for _, c := range slices.Sorted(maps.Keys(l.causes)) {
			why += fmt.Sprintf(" %s %d", c, l.causes[c])
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%s\t  %s;%s\n", l.struck, l.asked, l.released, l.refused, l.unreleased, len(l.violations), l.slowest.Round(time.Millisecond), f.name, why)
	}
	w.Flush() //nolint:errcheck // a strings.Builder takes everything
	return b.String()
}

// Two nodes with 32 callers each disclose all the time while what they lean on breaks, one fault after the other. After
// each turn everything that was released is looked for in the log, which is exported and verified.
func TestWhateverBreaksNothingIsReleasedWithoutItsRecord(t *testing.T) {
	begun := time.Now()
	all := faults()
	why := mayMount()
	if why == nil {
		all = append(all, fullDisks()...)
	}
	lines := make(map[string]*line)
	for round := 1; round == 1 || time.Since(begun) < *soak; round++ {
		strikes := 1
		if *soak > 0 {
			strikes = 3
		}
		done := t.Run(fmt.Sprintf("round %d", round), func(t *testing.T) {
			w := newWorld(t, newNode)
			if why == nil {
				w.onDisks()
			}
			for _, f := range all {
				l := w.turn(f, strikes)
				for _, v := range l.violations {
					t.Errorf("%s: %s: %s", f.name, v.request, v.what)
				}
				if lines[f.name] == nil {
					lines[f.name] = l
				} else {
					lines[f.name].add(l)
				}
			}
			w.readAgain(t)
		})
		t.Logf("after %s and round %d:\n%s", time.Since(begun).Round(time.Second), round, table(all, lines))
		if why != nil {
			t.Logf("No disk was really filled, since none can be mounted here (%v): the limit on files stands for it.", why)
		}
		if !done {
			return
		}
	}
}

// readAgain reads the whole log from the beginning and into a new export: it has to be what it was at each look.
func (w *world) readAgain(t *testing.T) {
	now, bad := readLog(t, w.place, t.TempDir(), w.key, 0)
	for _, v := range bad {
		t.Errorf("at the end: %s: %s", v.request, v.what)
	}
	if !slices.Equal(now, w.checker.log) {
		t.Errorf("the log of %d records is not what it was when its %d records were looked at", len(now), len(w.checker.log))
	}
}
