//go:build ignore

// Summary reads what `go test -json` wrote on standard input: it prints a line a
// package, the output of what failed, and every test that was left out. It exits
// with 1 if something failed, or was left out: where CI runs, nothing is missing
// that a test needs.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// most is how much is kept of what a test printed.
const most = 20_000

func main() {
	output := map[string]*strings.Builder{}
	var skipped []string
	passed, failed := 0, 0
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Print(string(line)) // of a build that failed
				continue
			}
			key := e.Package + " " + e.Test
			switch e.Action {
			case "output", "build-output":
				if output[key] == nil {
					output[key] = &strings.Builder{}
				}
				if e.Action == "build-output" || e.Test == "" && (strings.HasPrefix(e.Output, "ok") || strings.HasPrefix(e.Output, "FAIL")) {
					fmt.Print(e.Output)
				}
				if strings.Contains(e.Output, "acceptance matrix:") || strings.Contains(e.Output, " kills, ") {
					fmt.Print(e.Output)
				}
				if b := output[key]; b.Len() < most {
					b.WriteString(e.Output)
				}
			case "fail":
				if e.Test != "" {
					failed++
				}
				if e.Test == "" {
					unfinished(e.Package, output)
				}
				if b := output[key]; b != nil {
					fmt.Printf("--- %s %s\n%s", e.Package, e.Test, b)
				}
				delete(output, key)
			case "skip":
				if e.Test != "" {
					skipped = append(skipped, key+": "+strings.TrimSpace(output[key].String()))
				}
			case "pass":
				if e.Test != "" {
					passed++
				}
			}
			if e.Action == "pass" || e.Action == "skip" {
				delete(output, key)
			}
		}
		if err != nil {
			break
		}
	}
	for _, s := range skipped {
		fmt.Println("left out:", s)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, len(skipped))
	if failed > 0 || len(skipped) > 0 || passed == 0 {
		os.Exit(1)
	}
}

// unfinished prints what the tests of a package said that have no end, because the
// package ran out of time or crashed: among them is where it stood.
func unfinished(pkg string, output map[string]*strings.Builder) {
	for _, key := range slices.Sorted(maps.Keys(output)) {
		if name, ok := strings.CutPrefix(key, pkg+" "); ok && name != "" {
			fmt.Printf("--- without an end: %s\n%s", key, output[key])
			delete(output, key)
		}
	}
}
