package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What refuses to lead to a host of Microsoft Graph must not hold its name either.
func TestTheProgramHoldsNoHostOfMicrosoftGraph(t *testing.T) {
	program, err := os.ReadFile(filepath.Join(programs, "counterfoil"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(program, []byte("smba.trafficmanager.net")) {
		t.Fatal("strings of the program are not found in this way")
	}
	for _, host := range []string{"graph.microsoft.com", "graph.microsoft.us", "microsoftgraph.chinacloudapi.cn", "graph.microsoft.de", "graph.windows.net", "graph.microsoft.scloud"} {
		if bytes.Contains(program, []byte(host)) {
			t.Errorf("the program holds %s", host)
		}
	}
}
