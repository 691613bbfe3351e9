// Package cluster runs PostgreSQL as a child process of the service, for machines where nobody set up a database.
//
// Its promise: the server belongs to this process and to nobody else. It listens on no network address; its socket lies
// in a directory only its own user and root may enter; it admits the operating system user who started the service, as
// the roles in [Roles] and as [Superuser], auditors by their password, and nobody else. It runs with fsync, checksums and full page writes, never as
// root, writes no statement and no value to its log, ends when this process ends (however that happens), and recovers on
// the next start from whatever was left behind.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Superuser is the role that owns the cluster. Migrations run as it; the service does not.
	Superuser = "postgres"
	// Database is the database that [Start] makes sure exists.
	Database = "counterfoil"

	// maxSocketPath keeps clear of sun_path, 104 bytes on macOS and 108 on Linux.
	maxSocketPath = 99
	socketName    = ".s.PGSQL.5432"
	// socketDirPrefix begins the name of a socket directory outside DataDir.
	socketDirPrefix = "counterfoil-socket-"

	// orphanPatience is how long a server left behind by a killed service gets for each of fast and immediate shutdown.
	orphanPatience = 10 * time.Second
	// relicPatience is how long a start waits for the last backends of a killed server to let go of its shared memory.
	relicPatience = 10 * time.Second
	// killPatience is how long Stop waits after each escalation once its context is over.
	killPatience = 5 * time.Second
)

// ErrInUse says that another living process holds the data directory.
var ErrInUse = errors.New("data directory in use by another process")

// Roles returns the login roles that the service's operating system user may take over the socket, besides [Superuser].
// Migrations create them; the map that admits them needs their names beforehand.
func Roles() []string {
	return []string{"counterfoil_service", "counterfoil_retention"}
}

// Options tells [Start] where and how.
type Options struct {
	// DataDir is a directory for this cluster alone; it is created when missing. PostgreSQL's own files go to its
	// subdirectory pgdata.
	DataDir string
	// Logger gets the few events of the cluster's life. Nil discards them.
	Logger *slog.Logger
	// Stderr gets the server's log. Nil discards it.
	Stderr io.Writer
	// Notify is told, in a sentence, about a step that takes more than a moment, such as creating the cluster.
	Notify func(string)
}

// Cluster is a running PostgreSQL server. Its methods are safe for concurrent use.
type Cluster struct {
	opts    Options
	bin     install
	self    *user.User          // who runs this process: whom the server admits
	cred    *syscall.Credential // whom the server runs as; nil: as this process
	pgdata  string
	conf    string
	socket  string // directory of the socket
	private bool   // socket is a directory outside DataDir, to be removed at the end
	lock    *os.File

	mu   sync.Mutex
	proc *process // nil before the first launch and after Stop
}

// process is one run of the server.
type process struct {
	cmd  *exec.Cmd
	tail *tail
	done chan struct{} // closed when the server has been waited for
	err  error         // valid after done
}

// Start makes the cluster in o.DataDir if there is none, starts it and returns once it answers and [Database] exists.
//
// It fails with [ErrNotInstalled] when no suitable PostgreSQL is on the machine, with [ErrInUse] when another process
// has this cluster, and with a sentence on what to do when the directory cannot be used: made by another major version,
// owned by another user, or out of reach of the unprivileged user that PostgreSQL runs as when the service is started
// by root. A server left behind by a killed service is stopped first.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	return start(ctx, o, os.Getenv("PATH"), wellKnown)
}

func start(ctx context.Context, o Options, path string, patterns []string) (_ *Cluster, err error) {
	// Children get a signal when the thread that forked them ends; this one must outlive those that are run below.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return nil, fmt.Errorf("resolve data directory: %w", err)
	}
	c := &Cluster{opts: o, pgdata: filepath.Join(o.DataDir, "pgdata"), conf: filepath.Join(o.DataDir, "conf")}
	defer func() {
		if err != nil {
			c.release()
		}
	}()

	runsAs, err := c.chooseUser()
	if err != nil {
		return nil, err
	}
	if err := c.checkOwner(runsAs); err != nil {
		return nil, err
	}
	if err := c.makeDirs(); err != nil {
		return nil, err
	}
	if err := c.takeLock(); err != nil {
		return nil, err
	}
	if c.bin, err = c.chooseInstall(ctx, path, patterns); err != nil {
		return nil, err
	}
	if err := c.checkReach(ctx, runsAs); err != nil {
		return nil, err
	}
	if err := c.stopOrphan(ctx); err != nil {
		return nil, err
	}
	if err := c.initialise(ctx); err != nil {
		return nil, err
	}
	if err := c.makeSocketDir(); err != nil {
		return nil, err
	}
	if err := c.writeConfig(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.launch(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// URL returns the connection string by which this process reaches the database as role. It holds no secret.
func (c *Cluster) URL(role, database string) string {
	return socketURL(c.socket, role, database)
}

// Exited returns a channel that is closed when the server ends, whether it was asked to or not. After [Cluster.Restart]
// there is a new one.
func (c *Cluster) Exited() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return c.proc.done
}

// Kill sends sig to the server and waits until it has ended; [Cluster.Restart] starts it again. It exists to rehearse
// crashes: backends notice the death of their postmaster and follow, without a word to their clients.
func (c *Cluster) Kill(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return errors.New("kill PostgreSQL: not running")
	}
	if err := c.proc.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	<-c.proc.done
	return nil
}

// Restart starts the server again after it has ended by itself or through [Cluster.Kill], on the same socket.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return errors.New("restart PostgreSQL: the cluster was stopped")
	}
	select {
	case <-c.proc.done:
	default:
		return errors.New("restart PostgreSQL: it is running")
	}
	return c.launch(ctx)
}

// Stop ends the server by a fast shutdown (sessions are disconnected, everything is written) and waits for it. When ctx
// ends first, an immediate shutdown follows, and if need be a kill; both lose nothing that was committed, but the next
// start has to recover. A second Stop does nothing.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil
	}
	p := c.proc
	c.proc = nil
	err := p.stop(ctx)
	c.release()
	c.opts.Logger.Info("PostgreSQL stopped", "clean", err == nil)
	return err
}

// release gives up what does not belong to the server's process.
func (c *Cluster) release() {
	if c.private {
		os.RemoveAll(c.socket)                     //nolint:errcheck // an empty directory; the next start removes it
		os.Remove(filepath.Join(c.conf, "socket")) //nolint:errcheck // the next start removes it
	}
	if c.lock != nil {
		c.lock.Close() //nolint:errcheck // closing releases the lock; nothing was written
		c.lock = nil
	}
}

// launch starts the server and waits until it answers. The caller holds mu.
func (c *Cluster) launch(ctx context.Context) error {
	deadline := time.Now().Add(relicPatience)
	for {
		relic, err := c.clearPidFile()
		if err != nil {
			return err
		}
		began := time.Now()
		p, err := c.spawn()
		if err != nil {
			return err
		}
		err = c.awaitReady(ctx, p)
		if err == nil {
			c.proc = p
			c.opts.Logger.Info("PostgreSQL started", "version", c.bin.version, "took", time.Since(began).Round(time.Millisecond))
			return nil
		}
		var ended *endedError
		if !errors.As(err, &ended) {
			over, cancel := context.WithCancel(context.WithoutCancel(ctx))
			cancel()
			return errors.Join(err, p.stop(over))
		}
		// The backends of a server that was killed a moment ago may still hold its shared memory.
		if !relic || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// spawn forks the server. Each setting that guards who may connect, or what may be logged, is on the command line, where
// ALTER SYSTEM cannot reach it.
func (c *Cluster) spawn() (*process, error) {
	args := []string{"-D", c.pgdata}
	for _, s := range []string{
		"config_file=" + filepath.Join(c.conf, "postgresql.conf"),
		"hba_file=" + filepath.Join(c.conf, "pg_hba.conf"),
		"ident_file=" + filepath.Join(c.conf, "pg_ident.conf"),
		"listen_addresses=",
		"port=5432",
		"unix_socket_directories=" + quoteListItem(c.socket),
		"unix_socket_permissions=0700",
		"logging_collector=off",
		"log_destination=stderr",
		// ERROR and WARNING stay out: their text may quote what a client sent. The client gets them.
		"log_min_messages=log",
		"log_min_error_statement=panic",
		"log_error_verbosity=terse",
		"log_statement=none",
		"log_duration=off",
		"log_min_duration_statement=-1",
		"log_min_duration_sample=-1",
		"log_transaction_sample_rate=0",
		"log_parameter_max_length=0",
		"log_parameter_max_length_on_error=0",
		"log_lock_waits=off",
		"log_temp_files=-1",
		"log_autovacuum_min_duration=-1",
	} {
		args = append(args, "-c", s)
	}
	p := &process{cmd: exec.Command(c.bin.postgres(), args...), tail: new(tail), done: make(chan struct{})}
	p.cmd.Dir = c.pgdata
	p.cmd.Env = childEnv()
	p.cmd.SysProcAttr = sysProcAttr(c.cred)
	p.cmd.Stderr = io.Writer(p.tail)
	if c.opts.Stderr != nil {
		p.cmd.Stderr = io.MultiWriter(p.tail, c.opts.Stderr)
	}
	// Backends of a killed server hold the pipe a little longer than the server itself.
	p.cmd.WaitDelay = killPatience

	started := make(chan error)
	go func() {
		// The signal that ends the server with us is sent when the thread that forked it ends, so that thread must
		// live as long as the server.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, nil
}

// endedError says that the server ended before it was ready.
type endedError struct {
	err  error
	last string
}

func (e *endedError) Error() string {
	return fmt.Sprintf("start PostgreSQL: it ended at once (%v); its last words: %s", e.err, e.last)
}

func (c *Cluster) awaitReady(ctx context.Context, p *process) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.URL(Superuser, "postgres"))
		if err == nil {
			return ensureDatabase(ctx, conn)
		}
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code != "57P03" { // cannot_connect_now
			return fmt.Errorf("reach PostgreSQL: %w", err)
		}
		select {
		case <-p.done:
			return &endedError{err: p.err, last: p.tail.String()}
		case <-ctx.Done():
			return fmt.Errorf("start PostgreSQL: %w", ctx.Err())
		case <-patience.C:
			c.opts.Notify("PostgreSQL is recovering its data; this takes as long as there was work since its last checkpoint")
		case <-poll.C:
		}
	}
}

func ensureDatabase(ctx context.Context, conn *pgx.Conn) (err error) {
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	var exists bool
	err = conn.QueryRow(ctx, `select exists (select from pg_catalog.pg_database where datname = $1)`, Database).Scan(&exists)
	if err != nil {
		return fmt.Errorf("look for database %s: %w", Database, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{Database}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", Database, err)
	}
	return nil
}

func (p *process) stop(ctx context.Context) error {
	// A server that ended meanwhile makes these signals fail, which done then shows.
	p.cmd.Process.Signal(syscall.SIGINT) //nolint:errcheck // see above
	select {
	case <-p.done:
		return p.exit()
	case <-ctx.Done():
	}
	for _, sig := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		p.cmd.Process.Signal(sig) //nolint:errcheck // see above
		select {
		case <-p.done:
			return fmt.Errorf("stop PostgreSQL: ended by %v: %w", sig, ctx.Err())
		case <-time.After(killPatience):
		}
	}
	return fmt.Errorf("stop PostgreSQL: process %d does not end", p.cmd.Process.Pid)
}

func (p *process) exit() error {
	if p.err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", p.err)
	}
	return nil
}

// chooseUser fills self and cred and returns the user that the server will run as.
func (c *Cluster) chooseUser() (*user.User, error) {
	uid := strconv.Itoa(os.Geteuid())
	self, err := user.LookupId(uid)
	if err != nil {
		return nil, fmt.Errorf("look up user %s, which PostgreSQL needs to know by name (add it to /etc/passwd): %w", uid, err)
	}
	c.self = self
	if os.Geteuid() != 0 {
		return self, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		id, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read group of user %s: %w", name, err)
		}
		if id == 0 {
			continue
		}
		c.cred = &syscall.Credential{Uid: uint32(id), Gid: uint32(gid)}
		return u, nil
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor a user nobody to run it as; start the service as an ordinary user")
}

// checkOwner refuses a cluster of another user, which PostgreSQL would refuse less plainly.
func (c *Cluster) checkOwner(runsAs *user.User) error {
	info, err := os.Lstat(c.pgdata)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("inspect data directory: %s is not a directory", c.pgdata)
	}
	owner := strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Uid), 10)
	if owner == runsAs.Uid {
		return nil
	}
	name := "with id " + owner
	if u, err := user.LookupId(owner); err == nil {
		name = u.Username
	}
	whole := c.opts.DataDir
	if c.cred != nil {
		whole = c.pgdata // what lies above it stays with root
	}
	return fmt.Errorf("the database in %s belongs to user %s, but PostgreSQL would run as %s: start the service as it was started before, or, with nothing running, hand the files over: chown -R %s: %s",
		c.pgdata, name, runsAs.Username, runsAs.Username, whole)
}

// makeDirs makes DataDir and conf. When PostgreSQL runs as another user, that user may pass through DataDir and read
// conf, but write neither: it cannot change who is admitted.
func (c *Cluster) makeDirs() error {
	mode := os.FileMode(0o700)
	if c.cred != nil {
		mode = 0o711
	}
	if err := os.MkdirAll(c.opts.DataDir, mode); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := os.Chmod(c.opts.DataDir, mode); err != nil {
		return fmt.Errorf("make data directory private: %w", err)
	}
	if err := os.Mkdir(c.conf, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make configuration directory: %w", err)
	}
	if c.cred != nil {
		if err := os.Lchown(c.conf, 0, int(c.cred.Gid)); err != nil {
			return fmt.Errorf("hand over configuration directory: %w", err)
		}
		if err := os.Chmod(c.conf, 0o750); err != nil {
			return fmt.Errorf("hand over configuration directory: %w", err)
		}
	}
	return nil
}

// takeLock makes this process the only one that starts, stops or cleans up here. The kernel releases the lock when the
// process ends in whatever way, so a server that still runs under a lock we could take is an orphan.
func (c *Cluster) takeLock() error {
	f, err := os.OpenFile(filepath.Join(c.opts.DataDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lock of data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("%w: %s (stop the other service first, or choose another directory with COUNTERFOIL_DATA_DIR)", ErrInUse, c.opts.DataDir)
		}
		return fmt.Errorf("lock data directory: %w", err)
	}
	c.lock = f
	return nil
}

// checkReach makes sure that the unprivileged user can get to its program and its data, by going there as that user.
func (c *Cluster) checkReach(ctx context.Context, runsAs *user.User) error {
	if c.cred == nil {
		return nil
	}
	for _, place := range []struct{ dir, target, advice string }{
		{"/", c.bin.postgres(), "install PostgreSQL from your system's packages"},
		{c.opts.DataDir, c.opts.DataDir, "set COUNTERFOIL_DATA_DIR to a directory such as /var/lib/counterfoil, or start the service as an ordinary user"},
	} {
		cmd := exec.CommandContext(ctx, c.bin.postgres(), "--version")
		cmd.Dir = place.dir
		cmd.Env = childEnv()
		cmd.SysProcAttr = sysProcAttr(c.cred)
		err := cmd.Run()
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("run PostgreSQL as user %s: %w", runsAs.Username, err)
		}
		return fmt.Errorf("PostgreSQL does not run as root, and user %s may not pass through %s on the way to %s: %s",
			runsAs.Username, closedParent(place.target), place.target, place.advice)
	}
	return nil
}

// closedParent names the first directory on the way to path that strangers may not pass, or path itself.
func closedParent(path string) string {
	for i := 1; i < len(path); i++ {
		if path[i] != filepath.Separator {
			continue
		}
		if info, err := os.Stat(path[:i]); err == nil && info.Mode().Perm()&0o001 == 0 {
			return path[:i]
		}
	}
	return path
}

// initialise makes the cluster if there is none. It comes to be under another name and is renamed when complete, so that
// a start that was cut short leaves no half cluster behind.
func (c *Cluster) initialise(ctx context.Context) error {
	if _, err := os.Lstat(c.pgdata); err == nil {
		return nil
	}
	c.opts.Notify("creating a database for Counterfoil in " + c.opts.DataDir)
	fresh := c.pgdata + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished database: %w", err)
	}
	if err := c.mkdirOwned(fresh); err != nil {
		return err
	}
	last := new(tail)
	cmd := exec.CommandContext(ctx, c.bin.initdb(),
		"--pgdata="+fresh,
		"--username="+Superuser,
		"--auth-local=peer",
		"--auth-host=reject",
		"--data-checksums",
		"--encoding=UTF8",
		// The order of the C locale never changes, so no update of the system's libraries can invalidate an index.
		"--locale=C",
		"--no-instructions",
	)
	cmd.Dir = fresh
	cmd.Env = childEnv()
	cmd.SysProcAttr = sysProcAttr(c.cred)
	cmd.Stderr = last
	// Interrupt lets initdb clean up after itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = killPatience
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("create database: %w; initdb's last words: %s", err, last)
	}
	if err := os.Rename(fresh, c.pgdata); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return syncDir(c.opts.DataDir)
}

func (c *Cluster) mkdirOwned(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for PostgreSQL: %w", err)
	}
	return c.own(dir)
}

// own gives path, just made by us in a directory that only we may write, to the user that the server runs as.
func (c *Cluster) own(path string) error {
	if c.cred == nil {
		return nil
	}
	if err := os.Lchown(path, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
		return fmt.Errorf("hand over directory to PostgreSQL: %w", err)
	}
	return nil
}

// makeSocketDir chooses where the socket lies: in DataDir, or, when that path is too long for a socket, in a new private
// directory under the temporary directory, noted in conf so that the next start can remove one that was left behind.
func (c *Cluster) makeSocketDir() error {
	note := filepath.Join(c.conf, "socket")
	if old, err := os.ReadFile(note); err == nil {
		if strings.HasPrefix(filepath.Base(string(old)), socketDirPrefix) {
			if err := os.RemoveAll(string(old)); err != nil {
				return fmt.Errorf("remove old socket directory: %w", err)
			}
		}
		if err := os.Remove(note); err != nil {
			return fmt.Errorf("remove note of old socket directory: %w", err)
		}
	}

	dir := filepath.Join(c.opts.DataDir, "run")
	if len(filepath.Join(dir, socketName)) <= maxSocketPath {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove old socket directory: %w", err)
		}
		c.socket = dir
		return c.mkdirOwned(dir)
	}
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, socketDirPrefix)
		if err != nil {
			continue
		}
		if len(filepath.Join(dir, socketName)) > maxSocketPath {
			os.Remove(dir) //nolint:errcheck // empty, and the next candidate may do
			continue
		}
		c.socket, c.private = dir, true
		if err := c.writeConf("socket", dir); err != nil {
			return err
		}
		return c.own(dir)
	}
	return fmt.Errorf("the path %s is too long for a socket, and so is the temporary directory: set COUNTERFOIL_DATA_DIR to a shorter path", dir)
}

// writeConfig writes the server's configuration anew at each start, so that it follows the binary.
func (c *Cluster) writeConfig() error {
	if strings.ContainsAny(c.self.Username, "\"\n\r") {
		return fmt.Errorf("user name %q cannot be written in PostgreSQL's configuration", c.self.Username)
	}
	var ident strings.Builder
	for _, role := range append([]string{Superuser}, Roles()...) {
		fmt.Fprintf(&ident, "counterfoil \"%s\" \"%s\"\n", c.self.Username, role)
	}
	return errors.Join(
		c.writeConf("pg_ident.conf", ident.String()),
		c.writeConf("pg_hba.conf", "local all +counterfoil_auditor scram-sha-256\nlocal all all peer map=counterfoil\nlocal replication "+Superuser+" peer map=counterfoil\n"),
		c.writeConf("postgresql.conf", settings),
	)
}

// settings may be tuned with ALTER SYSTEM. The first three decide whether a commit is durable; whoever turns them off
// finds that the service refuses to connect.
const settings = `# Written at each start; change settings with ALTER SYSTEM.
fsync = on
full_page_writes = on
synchronous_commit = on
wal_compression = on
max_connections = 200
shared_buffers = 128MB
jit = off
cluster_name = 'counterfoil'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
log_connections = off
log_disconnections = off
`

// writeConf writes one file in conf, readable by the server's user.
func (c *Cluster) writeConf(name, content string) error {
	path := filepath.Join(c.conf, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if c.cred == nil {
		return nil
	}
	if err := errors.Join(os.Lchown(path, 0, int(c.cred.Gid)), os.Chmod(path, 0o640)); err != nil {
		return fmt.Errorf("hand over configuration: %w", err)
	}
	return nil
}

// quoteListItem quotes a path for a setting that is a comma-separated list.
func quoteListItem(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// childEnv is the whole environment of PostgreSQL's programs: none of the service's secrets, none of libpq's variables.
func childEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 2048

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = slices.Delete(t.buf, 0, over)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
