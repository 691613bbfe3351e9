//go:build outside

package outside

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/audit/publish/buckettest"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

const witnessName = "witness.example/w1"

// startWitness starts litewitness, which knows one log with nothing in it, and gives its address and its verifier key.
func startWitness(t *testing.T, s *audit.Signer) (address, vkey string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf-w-") // the path of a socket must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+filepath.Join(dir, "agent.sock"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return strings.TrimSpace(string(out))
	}
	start := func(program string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	start("ssh-agent", "-D", "-a", filepath.Join(dir, "agent.sock"))
	eventually(t, "the agent listens", func() bool { _, err := os.Stat(filepath.Join(dir, "agent.sock")); return err == nil })
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key")
	run("ssh-add", "-q", "key")
	fingerprint := strings.Fields(run("ssh-keygen", "-lf", "key.pub"))[1]

	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listen := l.Addr().String()
	must(t, l.Close())
	start(litewitness, "-name", witnessName, "-db", "w.db", "-ssh-agent", filepath.Join(dir, "agent.sock"), "-listen", listen, "-key", fingerprint)
	eventually(t, "the witness answers", func() bool {
		conn, err := net.DialTimeout("tcp", listen, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	run("sqlite3", "w.db", fmt.Sprintf("insert into log values('%s',0,'%s'); insert into key values('%s','%s');",
		s.Origin(), audit.NewTree().Root(), s.Origin(), s.VerifierKey()))
	return "http://" + listen, witnessKey(strings.Fields(read(t, dir, "key.pub"))[1])
}

// witnessKey is the verifier key (C2SP tlog-cosignature, Ed25519) of an SSH public key.
func witnessKey(ssh string) string {
	blob, _ := base64.StdEncoding.DecodeString(ssh)
	key := append([]byte{4}, blob[len(blob)-32:]...)
	h := sha256.Sum256(append([]byte(witnessName+"\n"), key...))
	return fmt.Sprintf("%s+%08x+%s", witnessName, h[:4], base64.StdEncoding.EncodeToString(key))
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

// submit sends a checkpoint to a witness, word for word as C2SP tlog-witness has it.
func submit(t *testing.T, address string, old uint64, proof []audit.Hash, checkpoint string) (status int, answer string) {
	t.Helper()
	body := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		body += h.String() + "\n"
	}
	resp, err := http.Post(address+"/add-checkpoint", "text/plain", strings.NewReader(body+"\n"+checkpoint))
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

func TestLitewitnessAcceptsWhatContinuesAndRefusesWhatDoesNot(t *testing.T) {
	all, s := entries(t, largest, 0), signer(t, 1)
	address, _ := startWitness(t, s)
	grown, kept := t.TempDir(), map[int]string{}
	old := 0
	for _, n := range sizes {
		export(t, grown, s, all[:n])
		kept[n] = read(t, grown, "checkpoint")
		if status, answer := submit(t, address, uint64(old), consistency(t, grown, s, uint64(old)), kept[n]); status != http.StatusOK || !strings.HasPrefix(answer, "— "+witnessName+" ") {
			t.Fatalf("from %d to %d: %d %s", old, n, status, answer)
		}
		old = n
	}
	if status, answer := submit(t, address, 256, consistency(t, grown, s, 256), kept[largest]); status != http.StatusConflict || strings.TrimSpace(answer) != fmt.Sprint(largest) {
		t.Errorf("an old size that is not the latest: %d %s", status, answer)
	}
	if status, answer := submit(t, address, 255, nil, kept[255]); status != http.StatusConflict {
		t.Errorf("rolled back: %d %s", status, answer)
	}
	fork := t.TempDir()
	export(t, fork, s, entries(t, largest+100, 9))
	if status, answer := submit(t, address, largest, consistency(t, fork, s, largest), read(t, fork, "checkpoint")); status != http.StatusUnprocessableEntity {
		t.Errorf("forked: %d %s", status, answer)
	}
	same := t.TempDir()
	export(t, same, s, entries(t, largest, 9))
	if status, answer := submit(t, address, largest, nil, read(t, same, "checkpoint")); status != http.StatusConflict && status != http.StatusUnprocessableEntity {
		t.Errorf("forked at the same size: %d %s", status, answer)
	}
	if status, answer := submit(t, address, largest, nil, strings.Replace(kept[largest], "\n65537\n", "\n65538\n", 1)); status != http.StatusForbidden {
		t.Errorf("a forged checkpoint: %d %s", status, answer)
	}
}

// The product's own client keeps litewitness up to date, whatever size it remembers, and finds out that the log in the
// database is not the one it remembers. What lies in a bucket is the same log, file by file.
func TestOurPublisherAndLitewitnessUnderstandEachOther(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	pool := db.Pool(t, "counterfoil_service")
	key, err := audit.NewKey(bytes.Repeat([]byte{1}, 32))
	must(t, err)
	must(t, decisionKey(t).Install(t.Context(), db.Superuser(t)))
	organisation, log := uuid.New(), pglog.New(pool, key, decisionKey(t))
	s, err := key.For("chat.example/audit/" + organisation.String())
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "select set_config('counterfoil.organisation', $1, true)", organisation.String()); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), "insert into chat.organisation (organisation_id, name, log_origin) values ($1, 'Fictional Ltd', $2)", organisation, s.Origin()); err != nil {
			return err
		}
		return log.CreateLog(t.Context(), tx, organisation, s.Origin())
	}))
	address, vkey := startWitness(t, s)
	var said bytes.Buffer
	target, objects := bucketService(t)
	buckettest.MakeBuckets(t, target)
	node := func(to publish.Destination) *publish.Publisher {
		w, err := publish.NewWitness(address, vkey, http.DefaultTransport, time.Now)
		must(t, err)
		return publish.New(publish.Config{Log: log, To: to, Interval: time.Second, Witness: w, Require: true, MaxAge: time.Minute, Logger: slog.New(slog.NewTextHandler(&said, nil)), Now: time.Now})
	}
	first, second, bucket := t.TempDir(), t.TempDir(), filepath.Join(objects, buckettest.Locked)
	nodes := map[string]*publish.Publisher{
		first: node(publish.Directory(first)), second: node(publish.Directory(second)), bucket: node(buckettest.Open(t, target, buckettest.Locked)),
	}
	for i := range 5 {
		for root, n := range nodes { // each finds that the others have been there
			drafts := make([]pglog.Draft, 100*i+1)
			for j := range drafts {
				drafts[j].Entry = audit.Entry{Kind: audit.Denial, Action: "introduce", Decision: audit.DecisionDeny}
				if j%256 == 255 || j == len(drafts)-1 {
					_, err := log.Append(t.Context(), organisation, drafts[j/256*256:j+1]...)
					must(t, err)
				}
			}
			must(t, n.Publish(t.Context()))
			if err := n.Standing(t.Context(), organisation, true); err != nil {
				t.Fatalf("%v\n%s", err, &said)
			}
			dir := publish.Directory(root).Where(s.Origin())
			if good, out := fsckAccepts(t, dir, patience); !good {
				t.Fatalf("fsck does not accept what is published:\n%s", out)
			}
			witnessed, err := audit.ParseWitnessKey(vkey)
			must(t, err)
			if at, _, err := witnessed.Cosigned([]byte(read(t, dir, "checkpoint")), nil); err != nil || time.Since(at) > time.Minute {
				t.Fatalf("not cosigned: %s, %v", at, err)
			}
		}
	}
	// An older database and an empty directory: only the witness remembers.
	admin := db.Superuser(t)
	for _, sql := range []string{
		"alter table audit.head disable trigger all", "delete from audit.head", "alter table audit.record disable trigger all", "delete from audit.record",
		"alter table audit.search disable trigger all", "delete from audit.search", "alter table audit.searchable disable trigger all", "delete from audit.searchable",
		"alter table audit.retention disable trigger all", "delete from audit.retention", "alter table audit.tile disable trigger all", "delete from audit.tile", "alter table audit.node disable trigger all", "delete from audit.node",
	} {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	log = pglog.New(pool, key, decisionKey(t))
	must(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return log.CreateLog(t.Context(), tx, organisation, s.Origin()) }))
	// The bucket knows as well, though its checkpoint was deleted.
	must(t, buckettest.Client(t, target).RemoveObject(t.Context(), buckettest.Locked, s.Origin()+"/checkpoint", minio.RemoveObjectOptions{}))
	n := node(buckettest.Open(t, target, buckettest.Locked))
	if err := n.Standing(t.Context(), organisation, false); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), "were published and the database has 0") {
		t.Errorf("%v\n%s", err, &said)
	}
	n = node(publish.Directory(t.TempDir()))
	must(t, n.Publish(t.Context()))
	if err := n.Standing(t.Context(), organisation, false); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), "the witness remembers another history") {
		t.Errorf("%v\n%s", err, &said)
	}
}
