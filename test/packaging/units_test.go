package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exposure is the most that `systemd-analyze security` may find, in tenths: what is left
// is the network, which a relay is for, and the port below 1024.
const exposure = "17"

// tool is a program of the machine.
func tool(t *testing.T, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: apt-get install %s", name, install)
	}
	return path
}

func unitFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "packaging", "systemd", "anechoic*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

// The units are verified as they are, but for the program, which is where the test
// has it.
func TestUnitsAreVerifiedBySystemd(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	dir, binary := t.TempDir(), anechoic(t)
	args := []string{"verify", "--man=no"}
	for _, file := range unitFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		moved := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(moved, []byte(strings.ReplaceAll(string(text), "/usr/bin/anechoic", binary)), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, moved)
	}
	if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestTheServiceIsConfined(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+exposure, filepath.Join(root, "packaging", "systemd", "anechoic.service")).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the units, the scripts and the container call exists in the program.
func TestCommandsInUnitsAndContainerExist(t *testing.T) {
	calls := regexp.MustCompile(`/usr/bin/anechoic(?:", "| )([a-z]+)`)
	found := 0
	for _, file := range append(unitFiles(t), filepath.Join(root, "packaging", "container", "Containerfile")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range calls.FindAllStringSubmatch(string(text), -1) {
			found++
			if out, err := exec.Command(anechoic(t), m[1], "--help").CombinedOutput(); err != nil {
				t.Errorf("%s: anechoic %s: %v\n%s", filepath.Base(file), m[1], err, out)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d calls were found: the search is broken", found)
	}
}

// The socket units have the names that the program takes, each once.
func TestSocketUnitsHaveTheNamesOfListeners(t *testing.T) {
	name := regexp.MustCompile(`(?m)^FileDescriptorName=(.*)$`)
	seen := map[string]bool{}
	for _, file := range unitFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if m := name.FindStringSubmatch(string(text)); m != nil {
			seen[m[1]] = true
		}
	}
	if len(seen) != 3 || !seen["smtp"] || !seen["smtp_tls"] || !seen["submission"] {
		t.Errorf("the socket units are called %v", seen)
	}
}

// allowed are the system calls of the unit's filter, by systemd's own list.
func allowed(t *testing.T, analyze string) map[string]bool {
	t.Helper()
	calls := map[string]bool{}
	var walk func(group string, allow bool)
	walk = func(group string, allow bool) {
		out, err := exec.Command(analyze, "syscall-filter", "--no-pager", group).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(out), "\n")[1:] {
			switch name := strings.TrimSpace(line); {
			case name == "" || name[0] == '#':
			case name[0] == '@':
				walk(name, allow)
			default:
				calls[name] = allow
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "packaging", "systemd", "anechoic.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(string(text), -1) {
		for _, group := range strings.Fields(m[2]) {
			walk(group, m[1] == "")
		}
	}
	return calls
}

// asRoot are calls that are made by root alone, as which the test runs and the unit does
// not: SQLite gives the files beside its database that one's owner.
var asRoot = map[string]bool{"fchown": true}

// The filter is held against what the program really calls, with mail that comes,
// is signed and goes.
func TestTheSystemCallsOfTheRelayAreAllowed(t *testing.T) {
	analyze, strace := tool(t, "systemd-analyze", "systemd"), tool(t, "strace", "strace")
	record := filepath.Join(t.TempDir(), "calls")
	c := exec.Command(strace, "-f", "-c", "-o", record, anechoic(t), "demo", "--ci", "--json")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	calls, n := allowed(t, analyze), 0
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[len(fields)-1] == "total" || strings.HasPrefix(fields[0], "-") || fields[0] == "%" {
			continue
		}
		n++
		if name := fields[len(fields)-1]; !calls[name] && !asRoot[name] {
			t.Errorf("the unit does not allow %s, which the relay calls", name)
		}
	}
	if n < 30 {
		t.Errorf("only %d calls were seen: the record is broken\n%s", n, text)
	}
}
