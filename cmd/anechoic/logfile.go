package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"
)

// logFileMode keeps the log, which has addresses of people, from other users.
const logFileMode = 0o640

// lookSpan is how often a log file is looked after: what is written in between to a
// file that was moved away stands at the end of that one.
const lookSpan = time.Second

// logFile is a log that is rotated by moving it away: the next line, a second later
// at most, begins a new file of the old name. So nobody has to be told, and no line
// is lost. Lines are written whole: slog makes one call a line.
type logFile struct {
	name string

	mu     sync.Mutex // guards what follows
	file   *os.File
	looked time.Time
}

// openLogFile opens or makes a file, to write to its end.
func openLogFile(name string) (*logFile, error) {
	l := &logFile{name: name, looked: time.Now()}
	return l, l.open()
}

func (l *logFile) open() error {
	file, err := os.OpenFile(l.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, logFileMode)
	if err != nil {
		return fmt.Errorf("log file: %w: the folder has to be there, and the relay's user may write in it", err)
	}
	l.file = file
	return nil
}

// Write implements io.Writer. A new file that cannot be opened leaves the old one in
// use.
func (l *logFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.looked) >= lookSpan || now.Before(l.looked) {
		l.looked = now
		l.follow()
	}
	return l.file.Write(line)
}

// follow goes on in the file that has the name now.
func (l *logFile) follow() {
	named, err := os.Stat(l.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if open, failed := l.file.Stat(); err == nil && failed == nil && os.SameFile(named, open) {
		return
	}
	old := l.file
	if l.open() == nil {
		_ = old.Close() // nothing of it is buffered
	}
}

// Close ends the log.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
