package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/pg/cluster"
	"counterfoil/policy"
)

// What a superuser of the database does about auditors.
const (
	sqlAdmitAuditor   = "select audit.admit_auditor($1, $2, $3, $4)"
	sqlDismissAuditor = "select audit.dismiss_auditor($1, $2)"
	sqlAuditors       = "select login, created_at, until, until <= now() from audit.auditor where organisation_id = $1 order by created_at, login"
)

// auditorLogin begins the name of every auditor's login. What follows is random: a login names no person.
const auditorLogin = "counterfoil_auditor_"

var auditorLogins = regexp.MustCompile("^" + auditorLogin + "[a-z2-7]{8}$")

// maxAuditorDays is the longest time for which an auditor is admitted at once.
const maxAuditorDays = 400

type auditorCreateCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	Days int    `help:"For how many days, at most 400." default:"30"`
	JSON bool   `help:"For programs."`
}

const auditorSuperuser = "Against a database of your own, COUNTERFOIL_DATABASE_URL must be that of a superuser, since the service's role can admit nobody."

// Help is shown below the flags.
func (auditorCreateCmd) Help() string {
	return "Makes a login of the database for an outside auditor, who may read the logs of this one organisation with psql: entries, what they are searched by, day counts, " +
		"checkpoints and the tree. He sees nothing sealed, and can change nothing. That he was admitted is recorded; what he then reads by SQL is not. " +
		auditorSuperuser + "\n\nExamples:\n  counterfoil auditor create --days 14\n  psql \"$URL\" -c 'select seq, entry from record order by seq desc limit 20'"
}

type auditorOut struct {
	Login    string    `json:"login"`
	Password string    `json:"password,omitempty"`
	URL      string    `json:"url,omitempty"`
	Created  time.Time `json:"created"`
	Until    time.Time `json:"until"`
	Over     bool      `json:"over"`
}

// Run makes an auditor, after that is on record.
func (c auditorCreateCmd) Run(a *app) error {
	if c.Days < 1 || c.Days > maxAuditorDays {
		return usageError{fmt.Sprintf("--days takes 1 to %d", maxAuditorDays)}
	}
	return a.withAuditors(c.Org, func(h *heart, o chat.Organisation, superuser *pgx.Conn) error {
		now := time.Now().UTC().Truncate(time.Second)
		out := auditorOut{Login: auditorLogin + strings.ToLower(rand.Text()[:8]), Password: rand.Text(), Created: now, Until: now.AddDate(0, 0, c.Days)}
		facts := map[string]string{"login": out.Login, "until": out.Until.Format(time.RFC3339)}
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "auditor.create", facts); err != nil {
			return err
		}
		verifier, err := scramVerifier(out.Password)
		if err != nil {
			return err
		}
		if _, err := superuser.Exec(a.ctx, sqlAdmitAuditor, o.ID, out.Login, out.Until, verifier); err != nil {
			return fmt.Errorf("make the login %s: %w", out.Login, err)
		}
		if out.URL, err = auditorURL(superuser, out.Login); err != nil {
			return err
		}
		if c.JSON {
			return a.json(out)
		}
		fmt.Fprintf(a.stdout, "Until %s UTC an auditor of %s may read its log as\n\n  login     %s\n  password  %s   (shown this once)\n\n  psql '%s'\n\nHe sees the views log, record, search, day, tile and node. End it before with: counterfoil auditor remove %s\n",
			out.Until.Format(time.DateTime), o.Name, out.Login, out.Password, out.URL, out.Login)
		return nil
	})
}

// scramVerifier is what PostgreSQL keeps of a password (RFC 5803), so that the password itself is in no statement. It must be ASCII.
func scramVerifier(password string) (string, error) {
	const iterations = 4096
	salt := make([]byte, 16)
	rand.Read(salt)
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(mac("Server Key"))), nil
}

// auditorURL is where the auditor finds the database, as far as this host knows it: without the password.
func auditorURL(superuser *pgx.Conn, login string) (string, error) {
	u, err := url.Parse(superuser.Config().ConnString())
	if err != nil {
		return "", errors.New("the URL of the database is not one")
	}
	u.User = url.User(login)
	q := u.Query()
	q.Del("password")
	u.RawQuery = q.Encode()
	return u.String(), nil
}

type auditorListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (auditorListCmd) Help() string {
	return auditorSuperuser + "\n\nExample:\n  counterfoil auditor list --json"
}

// Run lists auditors.
func (c auditorListCmd) Run(a *app) error {
	return a.withAuditors(c.Org, func(h *heart, o chat.Organisation, superuser *pgx.Conn) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "auditor.list", nil); err != nil {
			return err
		}
		rows, err := superuser.Query(a.ctx, sqlAuditors, o.ID)
		if err != nil {
			return fmt.Errorf("list auditors: %w", err)
		}
		out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l auditorOut, err error) {
			err = row.Scan(&l.Login, &l.Created, &l.Until, &l.Over)
			l.Created, l.Until = l.Created.UTC(), l.Until.UTC()
			return l, err
		})
		if err != nil {
			return fmt.Errorf("list auditors: %w", err)
		}
		if c.JSON {
			return a.json(out)
		}
		if len(out) == 0 {
			fmt.Fprintln(a.stdout, "No outside auditor may read the log. Admit one: counterfoil auditor create --days 14")
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "LOGIN\tSINCE (UTC)\tUNTIL (UTC)\t")
		for _, l := range out {
			over := ""
			if l.Over {
				over = "over"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Login, l.Created.Format(time.DateTime), l.Until.Format(time.DateTime), over)
		}
		return t.Flush()
	})
}

type auditorRemoveCmd struct {
	Login string `arg:"" help:"As auditor list shows it."`
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (auditorRemoveCmd) Help() string {
	return "His sessions end at once. " + auditorSuperuser + "\n\nExample:\n  counterfoil auditor remove counterfoil_auditor_k7q2mxn4"
}

// Run takes an auditor's login away.
func (c auditorRemoveCmd) Run(a *app) error {
	if !auditorLogins.MatchString(c.Login) {
		return usageError{"an auditor's login is " + auditorLogin + " and eight letters and digits: see counterfoil auditor list"}
	}
	return a.withAuditors(c.Org, func(h *heart, o chat.Organisation, superuser *pgx.Conn) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "auditor.remove", map[string]string{"login": c.Login}); err != nil {
			return err
		}
		var there bool
		if err := superuser.QueryRow(a.ctx, sqlDismissAuditor, o.ID, c.Login).Scan(&there); err != nil {
			return fmt.Errorf("remove the login %s: %w", c.Login, err)
		}
		if !there {
			fmt.Fprintf(a.stdout, "%s has no such auditor.\n", o.Name)
			return found{}
		}
		fmt.Fprintf(a.stdout, "%s may no longer read the log of %s.\n", c.Login, o.Name)
		return nil
	})
}

// withAuditors runs f for an organisation with a connection of a superuser beside.
func (a *app) withAuditors(named string, f func(*heart, chat.Organisation, *pgx.Conn) error) error {
	return a.within(named, func(h *heart, o chat.Organisation) error {
		superuser, err := a.asSuperuser(h.config)
		if err != nil {
			return err
		}
		defer superuser.Close(context.WithoutCancel(a.ctx)) //nolint:errcheck // what it did is committed
		return f(h, o, superuser)
	})
}

// asSuperuser connects to the named database, or to our own one that runs, and makes sure of the role.
func (a *app) asSuperuser(c config.Config) (*pgx.Conn, error) {
	url, err := c.DatabaseURL, error(nil)
	if url == "" {
		if url, err = cluster.RunningURL(clusterDir(c), cluster.Superuser, cluster.Database); err != nil {
			return nil, err
		}
	}
	conn, err := direct(a.ctx, a.egress, url)
	if err != nil {
		return nil, errors.New("the database cannot be reached with this URL and role")
	}
	super := false
	err = conn.QueryRow(a.ctx, "select rolsuper from pg_roles where rolname = current_user").Scan(&super)
	if err == nil && !super {
		err = usageError{"this takes a superuser of the database in COUNTERFOIL_DATABASE_URL"}
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(a.ctx))
		return nil, err
	}
	return conn, nil
}
