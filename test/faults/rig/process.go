package rig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"anechoic/app"
)

// Process is one life of the program.
type Process struct {
	rig   *Rig
	cmd   *exec.Cmd
	ready chan struct{} // closed when it said that it is ready, or ended
	took  bool          // it said so; read after ready
	ended chan struct{} // closed when its output ended
}

// Start runs the program.
func (r *Rig) Start() (*Process, error) {
	p := &Process{rig: r, cmd: exec.Command(r.binary, "serve", "--config", r.configFile()), ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Stderr = r.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.listen(out)
	return p, nil
}

// StartReady runs the program and waits until it takes mail.
func (r *Rig) StartReady() (*Process, error) {
	p, err := r.Start()
	if err != nil {
		return nil, err
	}
	if err := p.AwaitReady(); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// listen reads the ready line.
func (p *Process) listen(out io.Reader) {
	defer close(p.ended)
	var ready app.Ready
	if json.NewDecoder(out).Decode(&ready) == nil && len(ready.SMTP) > 0 {
		p.took = true
		p.rig.setAddress(ready.SMTP[0])
	}
	close(p.ready)
	_, _ = io.Copy(io.Discard, out)
}

// AwaitReady returns when the process takes mail.
func (p *Process) AwaitReady() error {
	select {
	case <-p.ready:
		if p.took {
			return nil
		}
		return errors.New("a process ended before it was ready")
	case <-time.After(Patience):
		return errors.New("a process did not become ready")
	}
}

// KillWithin kills the process (SIGKILL) at a random moment of the next while,
// ready or not. A process that ended by itself is an error.
func (p *Process) KillWithin(while time.Duration) error {
	select {
	case <-time.After(rand.N(while)):
	case <-p.ended:
	}
	return p.Kill()
}

// Kill kills the process now.
func (p *Process) Kill() error {
	p.rig.setAddress("")
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	<-p.ended
	err := p.cmd.Wait()
	p.rig.setAddress("") // listen may have set it meanwhile
	var status *exec.ExitError
	if !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		return fmt.Errorf("the process was not killed but ended: %w", err)
	}
	return nil
}

// Pause stops every thread of the process where it is, and waits until each has left
// the kernel: none is inside a write or a sync then. Resume is to follow.
func (p *Process) Pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if stopped, err := p.isStopped(); err != nil || stopped {
			return err
		}
	}
	return errors.New("pause: a thread does not stop")
}

// isStopped says that every thread has the state T (proc(5), /proc/pid/stat).
func (p *Process) isStopped() (bool, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return false, fmt.Errorf("pause: no threads of %d: %w", p.cmd.Process.Pid, err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended
		}
		if err != nil {
			return false, err
		}
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return false, nil
		}
	}
	return true, nil
}

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Stop ends the process as an operator would.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-p.ended
	p.rig.setAddress("")
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("after SIGTERM: %w", err)
	}
	return nil
}

// AwaitEnd waits for a process that is to end by itself, and gives its exit code
// and how long that took.
func (p *Process) AwaitEnd(atMost time.Duration) (code int, took time.Duration, err error) {
	begin := time.Now()
	select {
	case <-p.ended:
	case <-time.After(atMost):
		return 0, 0, errors.Join(fmt.Errorf("the process did not end by itself within %s", atMost), p.Kill())
	}
	p.rig.setAddress("")
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode(), time.Since(begin), nil
}
