// Command counterfoil is live chat for Microsoft Teams that can prove who saw what.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg/cluster"
)

// Exit codes.
const (
	exitFine        = 0
	exitFound       = 1 // the command worked and found a problem
	exitUsage       = 2
	exitEnvironment = 3
)

// cli is the command line.
type cli struct {
	Lang string `help:"Language of what is printed for people: en or fr." enum:"en,fr" default:"en"`

	Serve   serveCmd   `cmd:"" help:"Run the service. Without COUNTERFOIL_DATABASE_URL it runs its own PostgreSQL in the data directory."`
	Migrate migrateCmd `cmd:"" help:"Bring the database's schema up to date. serve does it by itself for its own PostgreSQL."`
	Doctor  doctorCmd  `cmd:"" help:"Examine the live database: is everything still as the migrations made it, and the server as it must be?"`
	Config  configCmd  `cmd:"" help:"Show the settings in force, without secrets."`
	Version versionCmd `cmd:"" help:"Show what was built."`
	Org     struct {
		Create orgCreateCmd `cmd:"" help:"Make an organisation."`
		List   orgListCmd   `cmd:"" help:"List organisations."`
		Limits struct {
			Show orgLimitsShowCmd `cmd:"" help:"Show how much may be disclosed to one actor within an hour."`
			Set  orgLimitsSetCmd  `cmd:"" help:"Set that, within the bounds of the policy."`
		} `cmd:"" help:"How much may be disclosed to one actor within an hour."`
	} `cmd:"" help:"Organisations (tenants)."`
	Widget struct {
		Create widgetCreateCmd `cmd:"" help:"Make a widget and show the line for the website."`
		List   widgetListCmd   `cmd:"" help:"List the widgets of an organisation."`
	} `cmd:"" help:"Widgets: places on websites where visitors may write."`
	Admin struct {
		Setup    adminSetupCmd    `cmd:"" help:"Make a set-up link for an administrator of the audit console: good for 30 minutes, once."`
		List     adminListCmd     `cmd:"" help:"List the administrators of an organisation."`
		Allow    adminAllowCmd    `cmd:"" help:"Admit an address or network to the audit console."`
		Disallow adminDisallowCmd `cmd:"" help:"Admit an address or network no longer; sessions from there end at once."`
		Reviews  adminReviewsCmd  `cmd:"" help:"List the access reviews, or what was decided in one."`
		Unlock   adminUnlockCmd   `cmd:"" help:"Forget failed attempts to sign in, so that whoever was locked out may try again."`
	} `cmd:"" help:"Administrators of the audit console, and from where they may use it."`
	Auditor struct {
		Create auditorCreateCmd `cmd:"" help:"Make a login of the database that reads the log of one organisation for a time."`
		List   auditorListCmd   `cmd:"" help:"List the logins of outside auditors."`
		Remove auditorRemoveCmd `cmd:"" help:"Take such a login away; its sessions end at once."`
	} `cmd:"" help:"Outside auditors, who read the log with psql."`
	Audit struct {
		List        auditListCmd        `cmd:"" help:"Show records: who was shown what, why, and by which rule. Looking is recorded too."`
		Searches    auditSearchesCmd    `cmd:"" help:"List the searches that administrators share, for --filter of list."`
		Export      auditExportCmd      `cmd:"" help:"Write the log as C2SP tlog-tiles, or bring an earlier export up to date."`
		Verify      auditVerifyCmd      `cmd:"" help:"Check the log in the database, or an export as counterfoil-verify does."`
		Retention   auditRetentionCmd   `cmd:"" help:"Show or set how long records are kept."`
		Prune       auditPruneCmd       `cmd:"" help:"Remove records older than that, once they are in a checked export."`
		Proof       auditProofCmd       `cmd:"" help:"Write the inclusion proof of one record, and the record beside it."`
		Consistency auditConsistencyCmd `cmd:"" help:"Prove that the log only grew between two checkpoints."`
		RotateKey   auditRotateKeyCmd   `cmd:"" help:"Replace the key that signs checkpoints; for a time both sign."`
		Recover     auditRecoverCmd     `cmd:"" help:"Begin the log anew after it was found not to continue what was published of it; takes two operators."`
	} `cmd:"" help:"The append-only log."`
	Alerts struct {
		List  alertsListCmd  `cmd:"" help:"List what the rules found. Looking is recorded too."`
		Check alertsCheckCmd `cmd:"" help:"Hold the rules against the logs now."`
		Ack   alertsAckCmd   `cmd:"" help:"Acknowledge alerts, with a note."`
		Rules struct {
			List alertsRulesListCmd `cmd:"" help:"List the rules, in words."`
			Add  alertsRulesAddCmd  `cmd:"" help:"Make a rule out of a search: so many records within a time."`
		} `cmd:"" help:"The rules by which alerts are raised."`
		Silence alertsSilenceCmd `cmd:"" help:"Let nobody be told of a rule's alerts for a time."`
	} `cmd:"" help:"Alerts: what the rules of an organisation found in its log."`
	Egress struct {
		List egressListCmd `cmd:"" help:"List where the service connects to, for what, and what it refused. Looking is recorded too."`
	} `cmd:"" help:"Connections out of the service."`
	Notices struct {
		List    noticesListCmd    `cmd:"" help:"List the versions of the notices for visitors and agents, and how many accepted each."`
		Show    noticesShowCmd    `cmd:"" help:"Show the words of a notice."`
		Draft   noticesDraftCmd   `cmd:"" help:"Keep the words of the next version, to be published later."`
		Publish noticesPublishCmd `cmd:"" help:"Put the drafted version in force, for good; everybody is asked again."`
	} `cmd:"" help:"What visitors and agents read and accept before they take part."`
	Requests struct {
		List requestsListCmd `cmd:"" help:"List what people ask about their data, by when it has to be answered. Looking is recorded."`
		Show requestsShowCmd `cmd:"" help:"Show one, with what was done. Looking is recorded."`
	} `cmd:"" help:"Requests of people about their own data."`
	Policy struct {
		Check     policyCheckCmd     `cmd:"" help:"Compile a policy strictly, against the schema of its input."`
		Test      policyTestCmd      `cmd:"" help:"Run the policy's own tests and say how much of it they cover."`
		Matrix    policyMatrixCmd    `cmd:"" help:"Show what the policy decides for every actor, purpose and field."`
		Sign      policySignCmd      `cmd:"" help:"Write a policy as a signed bundle, which a running service takes over."`
		Revisions policyRevisionsCmd `cmd:"" help:"Show which policy decides, and which ones administrators chose together."`
		Demand    policyDemandCmd    `cmd:"" help:"Have two administrators choose the policy from now on; only two take that back."`
		Replay    policyReplayCmd    `cmd:"" help:"Ask another policy what was decided, and list what it would decide otherwise. Looking is recorded too."`
	} `cmd:"" help:"The policy that decides who may see what."`
	Inventory struct {
		Show inventoryShowCmd `cmd:"" help:"List every column and file: what it holds, why, and how long."`
		Ropa inventoryRopaCmd `cmd:"" help:"Write the record of processing activities (GDPR art. 30), in Markdown."`
		Flow inventoryFlowCmd `cmd:"" help:"Write a picture of the flows of personal data."`
	} `cmd:"" help:"The inventory of all data that is kept."`
	Retention struct {
		Show   retentionShowCmd   `cmd:"" help:"Show how long an organisation keeps what, and what is due."`
		Set    retentionSetCmd    `cmd:"" help:"Set that, within the bounds of the policy; says what would go."`
		Run    retentionRunCmd    `cmd:"" help:"Delete now what has been kept long enough."`
		Report retentionReportCmd `cmd:"" help:"Report what was kept longer than it may be, in the last quarter."`
	} `cmd:"" help:"How long data is kept."`
	Hold struct {
		Place holdPlaceCmd `cmd:"" help:"Keep a person, a conversation, a widget or a time from being deleted or erased."`
		List  holdListCmd  `cmd:"" help:"List holds, with their reasons."`
		Lift  holdLiftCmd  `cmd:"" help:"End a hold."`
	} `cmd:"" help:"Legal holds."`
	Erase struct {
		Do          eraseDoCmd          `cmd:"" help:"Erase a person or a conversation, or list what is kept of one or of the organisation."`
		List        eraseListCmd        `cmd:"" help:"List erasures."`
		Resume      eraseResumeCmd      `cmd:"" help:"Carry on with an erasure that broke off."`
		Certificate eraseCertificateCmd `cmd:"" help:"Show the certificate of an erasure, in English or French."`
	} `cmd:"" help:"Erasure of persons and conversations, with certificates."`
	Archive struct {
		Set     archiveSetCmd     `cmd:"" help:"Set to whose key archives are sealed, and how often they are made."`
		Create  archiveCreateCmd  `cmd:"" help:"Make an archive of what is over and in none yet, or carry on with one that broke off."`
		List    archiveListCmd    `cmd:"" help:"List archives."`
		Verify  archiveVerifyCmd  `cmd:"" help:"Check archives, offline with the public key of the log."`
		Restore archiveRestoreCmd `cmd:"" help:"Open an archive with the organisation's identity, into readable files."`
	} `cmd:"" help:"Sealed archives of conversations."`
	Jobs struct {
		List jobsListCmd `cmd:"" help:"List scheduled and long work, newest first; exit code 1 if some is late or was given up."`
	} `cmd:"" help:"The queue of scheduled and long work."`
	Logs struct {
		Status logsStatusCmd `cmd:"" help:"Show how old the operational log is."`
		Prune  logsPruneCmd  `cmd:"" help:"Remove what is too old there, for a host on which the service does not run."`
	} `cmd:"" help:"The operational log, no line of which gets a day old."`
	Backup struct {
		Create  backupCreateCmd  `cmd:"" help:"Copy the running database and prove that the copy is good."`
		List    backupListCmd    `cmd:"" help:"List backups."`
		Verify  backupVerifyCmd  `cmd:"" help:"Prove a backup again, by starting a copy of it and verifying every log in it."`
		Restore backupRestoreCmd `cmd:"" help:"Put a backup in the place of the database."`
	} `cmd:"" help:"Backups of the database that Counterfoil runs itself."`
	Canary struct {
		Scan canaryScanCmd `cmd:"" help:"Plant people who do not exist, and look for them in everything that is written. Looking is recorded too."`
	} `cmd:"" help:"People who do not exist, whose names may be found nowhere."`
	Telemetry struct {
		Dashboard telemetryDashboardCmd `cmd:"" help:"Print a Grafana dashboard of what the service measures."`
	} `cmd:"" help:"What the service measures of itself."`
	Teams struct {
		Package teamsPackageCmd `cmd:"" help:"Write the app package that is uploaded to Teams."`
	} `cmd:"" help:"The Teams app."`
}

// found makes the exit code say that a problem was found; its text has been written already.
type found struct{}

func (found) Error() string { return "a problem was found" }

// usageError is a mistake in the call.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// app is what every command gets.
type app struct {
	ctx            context.Context
	stdout, stderr io.Writer
	environ        []string
	egress         *egress.Register
	lang           string
}

// in gives the text in the language in which results are printed.
func (a *app) in(english, french string) string {
	if a.lang == "fr" {
		return french
	}
	return english
}

// telling says on the terminal how far something is, at most once a second and not within the first.
func (a *app) telling() func(format string, args ...any) {
	told := time.Now()
	return func(format string, args ...any) {
		if time.Since(told) > time.Second {
			told = time.Now()
			fmt.Fprintf(a.stderr, format, args...)
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	register := egress.New()
	register.Fence()
	code := run(ctx, register, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, register *egress.Register, args, environ []string, stdout, stderr io.Writer) int {
	exited := -1
	var c cli
	parser, err := kong.New(&c, kong.Name("counterfoil"), kong.UsageOnError(), kong.Writers(stdout, stderr),
		kong.Description("Live chat for Microsoft Teams that can prove who saw what.\n\nSettings come from the environment; see `counterfoil config`. "+
			"Exit codes: 0 fine, 1 a problem was found, 2 wrong usage, 3 the environment is not as needed."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintln(stderr, "counterfoil:", err)
		return exitEnvironment
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil: %v\nTry: counterfoil --help\n", err)
		return exitUsage
	}
	err = parsed.Run(&app{ctx, stdout, stderr, environ, register, c.Lang})
	var usage usageError
	switch {
	case err == nil:
		return exitFine
	case errors.As(err, new(found)):
		return exitFound
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "counterfoil:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "counterfoil:", err)
	if errors.Is(err, chat.ErrNotFound) {
		return exitUsage
	}
	if errors.Is(err, cluster.ErrInUse) {
		fmt.Fprintln(stderr, "Another counterfoil is running on this data directory.")
	}
	return exitEnvironment
}

// settings loads the configuration.
func (a *app) settings() (config.Config, error) {
	c, _, err := config.Load(a.environ)
	if err != nil {
		return c, usageError{"settings: " + err.Error()}
	}
	return c, nil
}

// json writes one value for programs.
func (a *app) json(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// jsonLine writes one value of a list for programs, on a line of its own.
func (a *app) jsonLine(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

type configCmd struct {
	JSON bool `help:"For programs."`
}

// Help is shown below the flags.
func (configCmd) Help() string { return "Example:\n  counterfoil config --json" }

// Run shows the settings.
func (c configCmd) Run(a *app) error {
	_, shown, err := config.Load(a.environ)
	if err != nil {
		return usageError{"settings: " + err.Error()}
	}
	if c.JSON {
		return a.json(shown)
	}
	for _, s := range shown {
		note := ""
		if s.Default {
			note = "  (default)"
		}
		fmt.Fprintf(a.stdout, "%s=%s%s\n", s.Name, s.Value, note)
	}
	return nil
}

type versionCmd struct {
	JSON bool `help:"For programs."`
}

// Run shows the version.
func (v versionCmd) Run(a *app) error {
	info, _ := debug.ReadBuildInfo()
	out := struct {
		Version  string `json:"version"`
		Revision string `json:"revision,omitempty"`
		Go       string `json:"go"`
	}{Version: "(devel)"}
	if info != nil {
		out.Version, out.Go = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				out.Revision = s.Value
			}
		}
	}
	if v.JSON {
		return a.json(out)
	}
	_, err := fmt.Fprintf(a.stdout, "counterfoil %s %s %s\n", out.Version, out.Revision, out.Go)
	return err
}
