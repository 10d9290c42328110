package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A log is rotated under the program's hands, as logrotate does it: no line is lost,
// none is in both files, and after a second the new name is in use.
func TestALogThatIsMovedAwayBeginsAnewAndLosesNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := filepath.Join(t.TempDir(), "relay.log")
		l, err := openLogFile(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for i := range 40 {
			if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
				t.Fatal(err)
			}
			if i == 9 {
				if err := os.Rename(name, name+".1"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(100 * time.Millisecond) // of the bubble's clock
		}
		moved, current := content(t, name+".1"), content(t, name)
		if lines := strings.Count(moved, "\n"); lines < 10 || lines > 20 {
			t.Errorf("%d lines went to the file that was moved away", lines)
		}
		var want strings.Builder
		for i := range 40 {
			fmt.Fprintf(&want, "line %d\n", i)
		}
		if moved+current != want.String() {
			t.Errorf("the two files have:\n%s--\n%s", moved, current)
		}
	})
}

func TestALogGoesOnWhereItsNameCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "log")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := openLogFile(filepath.Join(dir, "relay.log"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Rename(dir, dir+".gone"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if _, err := fmt.Fprintln(l, "still told"); err != nil {
			t.Fatal(err)
		}
		if got := content(t, filepath.Join(dir+".gone", "relay.log")); got != "still told\n" {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestALogFileThatCannotBeOpenedSaysWhatToDo(t *testing.T) {
	_, err := openLogFile(filepath.Join(t.TempDir(), "none", "relay.log"))
	if err == nil || !strings.Contains(err.Error(), "the folder has to be there") {
		t.Error(err)
	}
}

func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
