package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWorkTellsHowFarItCame(t *testing.T) {
	for _, c := range []struct {
		done, of int64
		taken    time.Duration
		want     string
	}{
		{0, 0, time.Second, "0 messages"},
		{1200, 0, 10 * time.Second, "1,200 messages, 120 a second"},
		{1000, 4000, 10 * time.Second, "1,000 of 4,000 messages, 100 a second, 30 s left"},
		{4000, 4000, 10 * time.Second, "4,000 of 4,000 messages, 400 a second"},
	} {
		if got := workLine("messages", c.done, c.of, c.taken); got != c.want {
			t.Errorf("%d of %d is %q, want %q", c.done, c.of, got, c.want)
		}
	}
	if got, want := bar(1, 2), "["+strings.Repeat("#", 12)+strings.Repeat(".", 12)+"]  50%  "; got != want {
		t.Errorf("half is %q, want %q", got, want)
	}
	for _, of := range []int64{0, -1} {
		if got := bar(3, of); got != "" {
			t.Errorf("of %d it draws %q", of, got)
		}
	}
}

func TestWorkIsDrawnOnATerminalAndTakenAway(t *testing.T) {
	var errs strings.Builder
	w := (&shell{errs: &errs}).work("messages")
	w.bar = true
	w.at(w.started.Add(drawEvery/2), 1, 1000)
	w.at(w.started.Add(10*time.Second), 100, 1000)
	w.at(w.started.Add(10*time.Second+drawEvery/2), 101, 1000)
	w.end()
	want := "\r[##......................]  10%  100 of 1,000 messages, 10 a second, 1 min 30 s left" + eraseLine + "\r" + eraseLine
	if got := errs.String(); got != want {
		t.Errorf("it writes %q, want %q", got, want)
	}
}

func TestNoWorkIsDrawnOffATerminalOrWithJSON(t *testing.T) {
	var errs strings.Builder
	sh := &shell{errs: &errs}
	w := sh.work("messages")
	w.at(w.started.Add(time.Hour), 90, 1000)
	w.end()
	sh.asJSON, w.bar = true, true
	w.at(w.started.Add(2*time.Hour), 190, 1000)
	w.end()
	if errs.Len() > 0 {
		t.Errorf("it writes %q", errs.String())
	}
}

func TestColoursAreForTerminalsUnlessTheyAreAskedFor(t *testing.T) {
	var out strings.Builder
	for flag, want := range map[string]string{"": "No", colourAuto: "No", colourNever: "No", colourAlways: "\x1b[32mNo\x1b[0m"} {
		if got := (&shell{colour: flag}).paint(&out, good, "No"); got != want {
			t.Errorf("--color %s writes %q, want %q", flag, got, want)
		}
	}
	if got := (&shell{colour: colourAlways}).paint(&out, good, "a\x1b[2Jb"); strings.Contains(got, "\x1b[2J") {
		t.Errorf("a stranger steers the terminal: %q", got)
	}
	var errs strings.Builder
	if code := run([]string{"version", "--color", "blue"}, strings.NewReader(""), &out, &errs); code != exitUsage {
		t.Errorf("--color blue leaves with %d", code)
	}
}

func TestErrorsOfTheSystemSayWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		syscall.EADDRINUSE:    "ss -ltnp",
		syscall.EADDRNOTAVAIL: "ip address",
		syscall.ENOSPC:        "df",
		syscall.EROFS:         "read-only",
		syscall.EISDIR:        "name a file",
		fs.ErrPermission:      "as root",
	} {
		wrapped := fmt.Errorf("storage: %w", &os.PathError{Op: "open", Path: "/x", Err: err})
		if got := advised(wrapped); !strings.Contains(got, want) || !strings.HasPrefix(got, "storage: open /x") {
			t.Errorf("it says %q, want something of %q", got, want)
		}
	}
	if got := advised(errors.New("something else")); got != "something else" {
		t.Errorf("it adds to what it does not know: %q", got)
	}
}
