package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// drawEvery is how often long work says how far it came.
const drawEvery = 200 * time.Millisecond

// barWidth is how many characters a bar has.
const barWidth = 24

// work tells a person on standard error how far a long command came, how fast it
// is, and how long the rest will take, in one line that is drawn again. Nothing of it
// is written where standard error is no terminal, so that a job of cron mails its
// answer alone, nor with --json.
//
//	w := sh.work("messages")
//	defer w.end()
//	w.reached(40, 200)
//
// Nothing is drawn of what is over within a moment.
type work struct {
	sh      *shell
	noun    string
	bar     bool // a terminal that can draw
	started time.Time
	told    time.Time
	drawn   bool
}

func (sh *shell) work(noun string) *work {
	now := time.Now()
	return &work{sh: sh, noun: noun, bar: isTerminal(sh.errs) && os.Getenv("TERM") != "dumb", started: now, told: now}
}

// reached says how much is done; of is all of it, 0 where that is not known.
func (w *work) reached(done, of int64) { w.at(time.Now(), done, of) }

// at is reached at a time.
func (w *work) at(now time.Time, done, of int64) {
	if !w.bar || w.sh.asJSON || now.Sub(w.told) < drawEvery {
		return
	}
	w.told, w.drawn = now, true
	line := workLine(w.noun, done, of, now.Sub(w.started))
	fmt.Fprintf(w.sh.errs, "\r%s%s", printable(bar(done, of)+line), eraseLine)
}

// end takes the bar away.
func (w *work) end() {
	if w.drawn {
		fmt.Fprintf(w.sh.errs, "\r%s", eraseLine)
		w.drawn = false
	}
}

// workLine is how far work came, in words.
func workLine(noun string, done, of int64, taken time.Duration) string {
	line := fmt.Sprintf("%s %s", grouped(done), noun)
	if of > 0 {
		line = fmt.Sprintf("%s of %s %s", grouped(done), grouped(of), noun)
	}
	rate := float64(done) / max(taken.Seconds(), 0.001)
	if done > 0 {
		line += fmt.Sprintf(", %s a second", grouped(int64(rate)))
	}
	if done > 0 && of > done {
		line += ", " + span(time.Duration(float64(of-done)/rate*float64(time.Second))) + " left"
	}
	return line
}

// bar is a share of the whole; empty where the whole is not known.
func bar(done, of int64) string {
	if of <= 0 {
		return ""
	}
	full := int(min(max(done, 0), of) * barWidth / of)
	return fmt.Sprintf("[%s%s] %3d%%  ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), min(max(done, 0), of)*100/of)
}

// grouped writes a number in groups of three: 12,345.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
