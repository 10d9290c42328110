package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/relay/inbound"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// What -inbound gives to verify: messages by one sender, signed with RSA-2048 and
// sealed once by another host on the way, from an address that SPF allows. Every
// one passes everything, so that nobody can stop early.
const (
	inboundMessages = 256
	inboundBits     = 2048
	inboundSender   = "sender.example"
	inboundSealer   = "forwarder.example"
	inboundAddress  = "192.0.2.7"
	inboundScanners = 8 // connections to rspamd
)

// Inbound is how fast messages are verified, in one run.
type Inbound struct {
	Date    time.Time `json:"date"`
	Machine string    `json:"machine"`
	KiB     int       `json:"kib"`
	Cores   int       `json:"cores"`
	Seconds int       `json:"seconds"`
	Ours    []Pace    `json:"ours"`
	Rspamd  []Pace    `json:"rspamd,omitempty"`
	Left    string    `json:"left_out,omitempty"`
}

// Pace is one measurement.
type Pace struct {
	Messages float64 `json:"messages_per_s"`
	CPU      float64 `json:"cpu_ms_per_message"` // of the verifier alone
}

// verifier checks one message of the corpus and gives an error if it does not
// pass everything.
type verifier struct {
	verify  func(context.Context, []byte) error
	workers int
	cpu     func() (time.Duration, error)
}

// inboundSpeed measures the authentication of inbound mail: SPF, DKIM, ARC and
// DMARC over messages in memory, with answers of the DNS at hand.
func inboundSpeed(ctx context.Context, o options, out, errs io.Writer) (err error) {
	zone, answers := &dns.Zone{}, map[string]string{}
	corpus, err := inboundCorpus(ctx, o.sizes[0]<<10, zone, answers)
	if err != nil {
		return err
	}
	ours, stop, err := ownVerifier(zone)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	report := Inbound{Date: time.Now().UTC().Truncate(time.Second), Machine: machine(), KiB: o.sizes[0], Cores: runtime.GOMAXPROCS(0), Seconds: o.seconds}
	peer, stopPeer, missing, err := rspamdVerifier(ctx, answers, o.alone)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopPeer()) }()
	report.Left = missing
	for round := range o.rounds {
		pace, err := ours.pace(ctx, corpus, o.seconds)
		if err != nil {
			return fmt.Errorf("anechoic: %w", err)
		}
		report.Ours = append(report.Ours, pace)
		fmt.Fprintf(errs, "bench: round %d: anechoic: %.0f/s, %.2f CPU-ms a message\n", round+1, pace.Messages, pace.CPU)
		if missing != "" {
			continue
		}
		if pace, err = peer.pace(ctx, corpus, o.seconds); err != nil {
			return fmt.Errorf("rspamd: %w", err)
		}
		report.Rspamd = append(report.Rspamd, pace)
		fmt.Fprintf(errs, "bench: round %d: rspamd: %.0f/s, %.2f CPU-ms a message\n", round+1, pace.Messages, pace.CPU)
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(report)
	}
	return report.writeMarkdown(out)
}

// pace verifies the corpus over and over for a time, once before to warm up.
func (v verifier) pace(ctx context.Context, corpus [][]byte, seconds int) (p Pace, err error) {
	for _, m := range corpus[:inboundScanners] {
		if err := v.verify(ctx, m); err != nil {
			return p, err
		}
	}
	before, err := v.cpu()
	if err != nil {
		return p, err
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	var done atomic.Int64
	var failed error
	var once sync.Once
	var workers sync.WaitGroup
	for w := range v.workers {
		workers.Go(func() {
			for i := w; ctx.Err() == nil; i += v.workers {
				err := v.verify(context.WithoutCancel(ctx), corpus[i%len(corpus)])
				if err != nil {
					once.Do(func() { failed = err })
					return
				}
				done.Add(1)
			}
		})
	}
	workers.Wait()
	took := time.Since(start)
	after, err := v.cpu()
	if err = errors.Join(failed, err); err != nil {
		return p, err
	}
	n := float64(done.Load())
	return Pace{Messages: n / took.Seconds(), CPU: float64((after - before).Microseconds()) / 1000 / n}, nil
}

// inboundCorpus makes the messages, and the DNS they need: in zone, and as texts by
// name in answers.
func inboundCorpus(ctx context.Context, size int, zone *dns.Zone, answers map[string]string) (corpus [][]byte, err error) {
	signers := map[string]dkim.Signer{}
	for _, name := range []string{inboundSender, inboundSealer} {
		key, err := rsa.GenerateKey(rand.Reader, inboundBits)
		if err != nil {
			return nil, err
		}
		d, err := mail.ParseDomain(name)
		if err != nil {
			return nil, err
		}
		signers[name] = dkim.Signer{Domain: d, Selector: "s1", Algorithm: dkim.RSASHA256, Key: key}
		answers[dkim.KeyName("s1", d)] = dkim.RecordValue(key.Public())
	}
	answers[inboundSender] = "v=spf1 include:_spf." + inboundSender + " -all"
	answers["_spf."+inboundSender] = "v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ~all"
	answers["_dmarc."+inboundSender] = "v=DMARC1; p=reject; rua=mailto:dmarc@" + inboundSender
	zone.SetTTL(time.Hour) // so that each name is asked for once
	for name, text := range answers {
		zone.SetTXT(name, text)
	}
	for i := range inboundMessages {
		m, err := inboundMessage(ctx, i, size, zone, signers)
		if err != nil {
			return nil, err
		}
		corpus = append(corpus, m)
	}
	return corpus, nil
}

// inboundMessage is a message of about that size, signed and sealed.
func inboundMessage(ctx context.Context, number, size int, zone *dns.Zone, signers map[string]dkim.Signer) ([]byte, error) {
	now := time.Now()
	head := fmt.Sprintf("From: Ada <ada@%s>\r\nTo: Bob <bob@here.example>\r\nSubject: Minutes %d\r\nDate: %s\r\nMessage-ID: <%d@%[1]s>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n",
		inboundSender, number, now.Format(time.RFC1123Z), number)
	body := inboundBody(size - len(head) - 2500) // what the signatures take
	header, err := mail.ParseHeader([]byte(head), mail.HeaderLimits{})
	if err != nil {
		return nil, err
	}
	hashes := hashesOf(header, body)
	fields, err := dkim.Sign(header, hashes, []dkim.Signer{signers[inboundSender]}, now, 6*24*time.Hour)
	if err != nil {
		return nil, err
	}
	header = header.Prepend(fields...)
	hashes = hashesOf(header, body)
	results := authres.Results{ID: "mx." + inboundSealer, Methods: []authres.Result{
		authres.Result{Method: "dkim", Value: "pass"}.With("header", "d", inboundSender),
		authres.Result{Method: "dmarc", Value: "pass"}.With("header", "from", inboundSender),
	}}
	fields, err = arc.Seal(header, hashes, arc.Validate(ctx, zone, header, hashes, now), results, signers[inboundSealer], now)
	if err != nil {
		return nil, err
	}
	return append(header.Prepend(fields...).Bytes(), body...), nil
}

// inboundBody is text that does not repeat itself.
func inboundBody(size int) []byte {
	random := make([]byte, max(size, 0)*3/4)
	rand.Read(random) // never fails
	text := base64.StdEncoding.EncodeToString(random)
	var b bytes.Buffer
	for len(text) > 0 {
		line := text[:min(len(text), 72)]
		text = text[len(line):]
		b.WriteString(line + "\r\n")
	}
	return b.Bytes()
}

func hashesOf(header mail.Header, body []byte) dkim.BodyHashes {
	h := dkim.NewBodyHasher(header)
	h.Write(body)
	return h.Sum()
}

// ownVerifier is what the relay does with a message that came in, with a resolver
// that asks a name server on loopback once and then remembers.
func ownVerifier(zone *dns.Zone) (v verifier, stop func() error, err error) {
	server, err := zone.Serve("127.0.0.1:0")
	if err != nil {
		return v, nil, err
	}
	resolver, err := dns.New(dns.Options{Servers: []string{server.Addr()}})
	if err != nil {
		return v, nil, errors.Join(err, server.Close())
	}
	from, err := mail.ParseDomain(inboundSender)
	if err != nil {
		return v, nil, errors.Join(err, resolver.Close(), server.Close())
	}
	checker := &inbound.Checker{Resolver: resolver}
	sender, err := mail.ParseAddress("ada@" + inboundSender)
	if err != nil {
		return v, nil, errors.Join(err, resolver.Close(), server.Close())
	}
	peer := netip.MustParseAddr(inboundAddress)
	verify := func(ctx context.Context, raw []byte) error {
		head, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		header, err := mail.ParseHeader(raw[:len(head)+2], mail.HeaderLimits{})
		if err != nil {
			return err
		}
		q := inbound.Question{Peer: peer, Helo: "mx." + inboundSender, MailFrom: sender, From: from, Header: header, Hashes: hashesOf(header, body)}
		r := checker.Verify(ctx, &q, time.Now())
		if r.SPF.Status != spf.Pass || len(r.DKIM) != 1 || r.DKIM[0].Status != dkim.Pass || r.ARC.Status != arc.Pass || r.DMARC.Status != dmarc.Pass {
			return fmt.Errorf("spf=%s dkim=%v arc=%s dmarc=%s", r.SPF.Status, r.DKIM, r.ARC.Status, r.DMARC.Status)
		}
		return nil
	}
	stop = func() error { return errors.Join(resolver.Close(), server.Close()) }
	return verifier{verify, runtime.GOMAXPROCS(0), func() (time.Duration, error) { return spent(), nil }}, stop, nil
}

func (r Inbound) writeMarkdown(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Verifying inbound mail\n\n%s, %s. Messages of %d KiB with one DKIM signature (RSA-2048) and one ARC set, SPF and DMARC that pass; %d cores, the DNS at hand; medians of %d rounds of %d s.\n\n",
		r.Date.Format(time.DateOnly), r.Machine, r.KiB, r.Cores, len(r.Ours), r.Seconds)
	b.WriteString("| verifier | messages/s | CPU-ms a message |\n|---|---|---|\n")
	row := func(name string, paces []Pace) {
		messages := median(each(paces, func(p Pace) float64 { return p.Messages }))
		cpu := median(each(paces, func(p Pace) float64 { return p.CPU }))
		fmt.Fprintf(&b, "| %s | %.0f | %.3f |\n", name, messages, cpu)
	}
	row("anechoic, in one process", r.Ours)
	if len(r.Rspamd) > 0 {
		row("rspamd over HTTP, only its spf, dkim, arc and dmarc modules", r.Rspamd)
		var faster, cheaper []float64
		for i, theirs := range r.Rspamd {
			faster = append(faster, r.Ours[i].Messages/theirs.Messages)
			cheaper = append(cheaper, theirs.CPU/r.Ours[i].CPU)
		}
		fmt.Fprintf(&b, "| ratio, median of the rounds' | %.1f | %.1f |\n\nrspamd is asked over loopback by this program, which takes a part of the same cores: its CPU time is that of its own processes alone.\n", median(faster), median(cheaper))
	}
	if r.Left != "" {
		fmt.Fprintf(&b, "\n%s\n", r.Left)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
