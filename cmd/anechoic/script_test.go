package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"anechoic/app"
	"anechoic/mail/dns"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"anechoic": main})
}

// TestScripts drives the program as a person does. Each file of testdata is a
// story. Beside testscript's own commands there are:
//
//	dns              a name server on loopback; its address is $DNS
//	publish NAME TXT a record of it; TXT - takes the strings of a zone line from stdout
//	fill FILE…       replaces $DNS and the like in files
//	relay            anechoic serve, until its ready line; the addresses are $SMTP, $SUBMISSION, $OPERATIONS
//	stop             SIGTERM to it; it must leave with 0
//	signal NAME      HUP to it
//	await TEXT       waits until its log has the text
//	submit FROM TO [FIELD…]  one message through $SUBMISSION as billing@acme; the reply is stdout
//	get PATH         an operations page; its status and body are stdout
//	certificate NAME now|past  makes NAME.pem and NAME.key, valid today or in 2020
//	occupy           listens on a port, which is $TAKEN
//	record NAME TYPE VALUE…  a record of the name server (outside_test.go)
//	secondary NAME=TXT…      a second name server at 127.0.0.2, with these alone
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[worldKey{}] = &world{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dns":     told((*world).dns),
			"publish": told((*world).publish),
			"fill":    told((*world).fill),
			"relay":   told((*world).relay),
			"stop":    told((*world).stop),
			"signal":  told((*world).signal),
			"await":   told((*world).await),
			"submit":  told((*world).submit),
			"get":     told((*world).get),

			"certificate": told((*world).certificate),
			"occupy":      told((*world).occupy),

			"record":    told((*world).record),
			"secondary": told((*world).secondary),
		},
	})
}

// world is what runs beside one script.
type world struct {
	zone dns.Zone
	run  *exec.Cmd
	log  *serverLog
}

// serverLog is the standard error of a running relay, which can be waited for.
type serverLog struct {
	mu      sync.Mutex // guards text
	written *sync.Cond
	text    []byte
}

func newServerLog() *serverLog {
	l := &serverLog{}
	l.written = sync.NewCond(&l.mu)
	return l
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.written.Broadcast()
	return len(p), nil
}

func (l *serverLog) await(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !bytes.Contains(l.text, []byte(text)) {
		l.written.Wait()
	}
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

type worldKey struct{}

// told makes a script command of a method: its error fails the script, unless
// the command is negated.
func told(do func(*world, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		err := do(ts.Value(worldKey{}).(*world), ts, args)
		if neg && err == nil {
			ts.Fatalf("it succeeded")
		}
		if !neg {
			ts.Check(err)
		}
	}
}

func (w *world) dns(ts *testscript.TestScript, _ []string) error {
	server, err := w.zone.Serve("127.0.0.1:0")
	if err != nil {
		return err
	}
	ts.Defer(func() { _ = server.Close() })
	ts.Setenv("DNS", server.Addr())
	return nil
}

func (w *world) publish(ts *testscript.TestScript, args []string) error {
	text := args[1]
	if text == "-" { // name. IN TXT ( "one" "two" )
		parts := strings.Split(ts.ReadFile("stdout"), `"`)
		text = ""
		for i := 1; i < len(parts); i += 2 {
			text += parts[i]
		}
	}
	w.zone.SetTXT(args[0], text)
	return nil
}

func (w *world) fill(ts *testscript.TestScript, files []string) error {
	for _, name := range files {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		if err := os.WriteFile(ts.MkAbs(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// relay starts anechoic serve and waits for its ready line.
func (w *world) relay(ts *testscript.TestScript, args []string) error {
	w.log = newServerLog()
	w.run = exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "anechoic"), append([]string{"serve"}, args...)...)
	w.run.Dir, w.run.Stderr = ts.MkAbs("."), w.log
	w.run.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"))
	out, err := w.run.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.run.Start(); err != nil {
		return err
	}
	running := w.run
	ts.Defer(func() {
		if running.ProcessState == nil {
			_ = running.Process.Kill() // the script ended before it stopped the relay
			_ = running.Wait()
		}
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return fmt.Errorf("no ready line: %w\n%s", errors.Join(lines.Err(), w.run.Wait()), w.log.String())
	}
	var ready app.Ready
	if err := json.Unmarshal(lines.Bytes(), &ready); err != nil || ready.Event != "ready" || ready.PID != w.run.Process.Pid {
		return fmt.Errorf("the ready line is %s: %w", lines.Text(), err)
	}
	ts.Setenv("SMTP", first(ready.SMTP))
	ts.Setenv("SUBMISSION", first(ready.Submission))
	ts.Setenv("OPERATIONS", ready.Operations)
	return nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// stop ends the relay as a service manager does; its log is stderr.
func (w *world) stop(ts *testscript.TestScript, _ []string) error {
	if err := w.run.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := w.run.Wait()
	if _, e := io.WriteString(ts.Stderr(), w.log.String()); e != nil {
		return e
	}
	if err != nil {
		return fmt.Errorf("serve: %w\n%s", err, w.log.String())
	}
	return nil
}

func (w *world) signal(_ *testscript.TestScript, args []string) error {
	if args[0] != "HUP" {
		return fmt.Errorf("signal %s is not known", args[0])
	}
	return w.run.Process.Signal(syscall.SIGHUP)
}

func (w *world) await(_ *testscript.TestScript, args []string) error {
	w.log.await(args[0])
	return nil
}

// submit sends one message as the application of the contract's example.
func (w *world) submit(ts *testscript.TestScript, args []string) error {
	from, to := args[0], args[1]
	c, err := smtp.Dial(ts.Getenv("SUBMISSION"))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { // self-signed, on loopback
		return err
	}
	if err := c.Auth(smtp.PlainAuth("", "billing@acme", "billing-example-password", "127.0.0.1")); err != nil {
		return err
	}
	reply, err := send(c, from, to, args[2:])
	if err != nil {
		reply = err.Error()
	}
	_, e := fmt.Fprintln(ts.Stdout(), reply)
	return errors.Join(err, e)
}

// send gives the reply to the end of data.
func send(c *smtp.Client, from, to string, fields []string) (reply string, err error) {
	if err := c.Mail(from); err != nil {
		return "", err
	}
	if err := c.Rcpt(to); err != nil {
		return "", err
	}
	id, err := c.Text.Cmd("DATA")
	if err != nil {
		return "", err
	}
	c.Text.StartResponse(id)
	_, _, err = c.Text.ReadResponse(354)
	c.Text.EndResponse(id)
	if err != nil {
		return "", err
	}
	data := c.Text.DotWriter()
	for _, f := range fields {
		fmt.Fprintf(data, "%s\r\n", f)
	}
	fmt.Fprintf(data, "From: <%s>\r\nTo: <%s>\r\nDate: Sun, 22 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@acme.test>\r\nSubject: invoice\r\n\r\nHello\r\n", from, to)
	if err := data.Close(); err != nil {
		return "", err
	}
	_, reply, err = c.Text.ReadResponse(250)
	return reply, err
}

// get asks an operations page.
func (w *world) get(ts *testscript.TestScript, args []string) error {
	conn, err := net.Dial("tcp", ts.Getenv("OPERATIONS"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", args[0]); err != nil {
		return err
	}
	_, err = bufio.NewReader(conn).WriteTo(ts.Stdout())
	return err
}

// certificate makes a self-signed certificate with its key.
func (w *world) certificate(ts *testscript.TestScript, args []string) error {
	from := time.Now().Add(-time.Hour)
	if args[1] == "past" {
		from = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: from.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(ts.MkAbs(args[0]+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600),
	)
}

// occupy takes a port until the script ends.
func (w *world) occupy(ts *testscript.TestScript, _ []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
	return nil
}
