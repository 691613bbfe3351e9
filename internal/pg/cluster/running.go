package cluster

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// ErrNotRunning says that no server runs in a data directory.
var ErrNotRunning = errors.New("no PostgreSQL of this data directory is running")

// RunningURL is the connection string of the server that another process of ours started in dataDir, for commands that
// are run beside it. The error is ErrNotRunning when there is none.
func RunningURL(dataDir, role, database string) (string, error) {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("resolve data directory: %w", err)
	}
	socket := filepath.Join(dataDir, "run")
	if note, err := os.ReadFile(filepath.Join(dataDir, "conf", "socket")); err == nil {
		socket = string(note)
	}
	if _, err := os.Stat(filepath.Join(socket, socketName)); err != nil {
		return "", ErrNotRunning
	}
	return socketURL(socket, role, database), nil
}

func socketURL(socket, role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database}
	u.RawQuery = url.Values{"host": {socket}, "port": {"5432"}}.Encode()
	return u.String()
}
