// Counterfoil-verify checks an exported audit log offline: that it is, record by record, the log its checkpoint was
// signed for; or a certificate, which is one record of such a log with its proof. It needs nothing but the directory or
// file, reads it only, and opens no connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"counterfoil/audit"
)

// Exit codes.
const (
	exitGood        = 0
	exitProblem     = 1 // the log is not what was signed
	exitUsage       = 2
	exitEnvironment = 3 // a file cannot be read: nothing is known about the log
)

const help = `counterfoil-verify checks an exported audit log, or the certificate of an erasure.

Usage:

  counterfoil-verify DIR [--key FILE|VKEY] [--since CHECKPOINT] [--witness VKEY] [--pruned-below INDEX] [--json]
  counterfoil-verify CERTIFICATE [--key FILE|VKEY] [--json]

DIR is a directory in the layout of C2SP tlog-tiles: checkpoint, tile/..., key.pub. CERTIFICATE is a file that holds one record,
its proof (C2SP tlog-proof) and the key.

  --key FILE|VKEY      the log's public key, as a file or as the key itself (name+hash+key). Without it the key.pub
                       beside the log, or in the certificate, is believed, which is weaker: whoever can replace the one
                       can replace the other too.
  --since CHECKPOINT   a checkpoint file kept from an earlier visit. The log must continue it; this is what shows that
                       it was not cut, put back to an older state, or written anew.
  --witness VKEY       the verifier key of a witness (as a file or as the key itself) that must have cosigned the log
  --pruned-below INDEX the log keeps its records from this index on (its retention policy says which). Files wholly below it may
                       be missing from the beginning on; that nothing else is, is checked as ever. It is not needed where a
                       record of the log itself says so, which the report then names.
  --json               print the outcome as one JSON object

Exit codes: 0 the log is good, 1 there is a problem, 2 wrong usage, 3 something could not be read.

Examples:

  counterfoil-verify ./export
  counterfoil-verify ./export --key auditor/key.pub
  counterfoil-verify ./export --key auditor/key.pub --since auditor/checkpoint-2026-03 --json
  counterfoil-verify ./export --key auditor/key.pub --pruned-below 51200
  counterfoil-verify ./erasure.json --key auditor/key.pub
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitGood
	}
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\nTry: counterfoil-verify --help\n", err)
		return exitUsage
	}
	options, err := o.load()
	if errors.Is(err, errCertificate) {
		return certificate(o, options, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\n", err)
		return exitEnvironment
	}
	bar := audit.NewProgress(stderr)
	options.Progress = bar.Update
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	start := time.Now()
	report, err := audit.VerifyExport(ctx, audit.Files(o.dir), options)
	bar.Clear()
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\n", err)
		return exitEnvironment
	}
	if o.json {
		err = report.WriteJSON(stdout, time.Since(start))
	} else {
		err = report.WriteText(stdout, time.Since(start))
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "counterfoil-verify: write the report: %v\n", err)
		return exitEnvironment
	case len(report.Faults) > 0:
		return exitProblem
	}
	return exitGood
}

// errCertificate says that what is to be checked is a file.
var errCertificate = errors.New("a certificate")

// certificate checks one record with its proof.
func certificate(o arguments, options audit.Options, stdout, stderr io.Writer) int {
	if o.since != "" || o.witness != "" || o.minimum > 0 {
		fmt.Fprintln(stderr, "counterfoil-verify: --since, --witness and --pruned-below are for a log, and this is a certificate\nTry: counterfoil-verify --help")
		return exitUsage
	}
	f, err := os.Open(o.dir)
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\n", err)
		return exitEnvironment
	}
	defer f.Close()
	c, err := audit.ReadCertificate(f)
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %s is neither a directory nor a certificate: %v\n", o.dir, err)
		return exitEnvironment
	}
	says := audit.Certified{Key: options.Key, KeySource: options.KeySource}
	if says.KeyFromWithin = says.Key == ""; says.KeyFromWithin {
		says.Key = strings.TrimSpace(c.Key)
	}
	if says.Entry, says.Checkpoint, err = c.Verify(says.Key); err != nil {
		fmt.Fprintf(stdout, "THE CERTIFICATE IS NOT GOOD.\n\n  %v\n", err)
		return exitProblem
	}
	if o.json {
		err = says.WriteJSON(stdout)
	} else {
		err = says.WriteText(stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: write the report: %v\n", err)
		return exitEnvironment
	}
	return exitGood
}

// arguments are the command line.
type arguments struct {
	dir, key, since, witness string
	minimum                  uint64
	json                     bool
}

// parse reads the command line. Options may stand before or after DIR.
func parse(args []string) (arguments, error) {
	var o arguments
	flags := flag.NewFlagSet("counterfoil-verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.key, "key", "", "")
	flags.StringVar(&o.since, "since", "", "")
	flags.StringVar(&o.witness, "witness", "", "")
	flags.Uint64Var(&o.minimum, "pruned-below", 0, "")
	flags.BoolVar(&o.json, "json", false, "")
	var dirs []string
	for {
		if err := flags.Parse(args); err != nil {
			return o, err
		}
		if flags.NArg() == 0 {
			break
		}
		dirs, args = append(dirs, flags.Arg(0)), flags.Args()[1:]
	}
	if len(dirs) != 1 {
		return o, fmt.Errorf("expected one directory or certificate, got %d", len(dirs))
	}
	o.dir = dirs[0]
	return o, nil
}

// load reads the files that the options name.
func (o arguments) load() (audit.Options, error) {
	options := audit.Options{Key: o.key, KeySource: "given by you", Minimum: o.minimum}
	info, err := os.Stat(o.dir)
	if err != nil {
		return options, err
	}
	if o.key != "" {
		if data, err := os.ReadFile(o.key); err == nil {
			options.Key, options.KeySource = strings.TrimSpace(string(data)), "given by you, in the file "+o.key
		} else if strings.Count(o.key, "+") < 2 {
			return options, fmt.Errorf("--key is neither a readable file nor a verifier key: %w", err)
		}
	}
	if info.Mode().IsRegular() {
		return options, errCertificate
	}
	if options.Witness = o.witness; o.witness != "" {
		if data, err := os.ReadFile(o.witness); err == nil {
			options.Witness = strings.TrimSpace(string(data))
		}
		if _, err := audit.ParseWitnessKey(options.Witness); err != nil {
			return options, fmt.Errorf("--witness is neither a readable file nor the key of a witness: %w", err)
		}
	}
	if o.since != "" {
		data, err := os.ReadFile(o.since)
		if err != nil {
			return options, fmt.Errorf("--since: %w", err)
		}
		options.Since = data
	}
	return options, nil
}
