package local

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// killDir tells the test binary that it is the child of the kill -9 test, and
// where to write.
const killDir = "ANECHOIC_TEST_KILL_DIR"

// kills is how many times the child is killed.
const kills = 20

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child commits units without end and prints each that was acknowledged. It is
// killed in the midst of that.
func child(dir string) {
	e, err := Open(Options{Dir: dir, Reserve: 1})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	first, _ := strconv.Atoi(os.Getenv(killDir + "_FIRST"))
	var mu sync.Mutex
	next := first
	for range 8 {
		go func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if err := e.Commit(ctx, unit(n, sizes[n%len(sizes)])); err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(n) // unbuffered: one write a line
				mu.Unlock()
			}
		}()
	}
	select {}
}

func TestKillNineLosesNothingAcknowledged(t *testing.T) {
	dir := fastDir(t)
	acknowledged := map[int]bool{}
	highest := 0
	for range kills {
		for _, n := range runAndKill(t, dir, highest+1000) {
			acknowledged[n] = true
			highest = max(highest, n)
		}
	}
	e, err := Open(Options{Dir: dir, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	facts := factsOf(t, e)
	for n := range acknowledged {
		if !there(t, e, n, sizes[n%len(sizes)]) {
			t.Errorf("unit %d was acknowledged and is lost", n)
		}
	}
	for id, n := range facts {
		unit, _ := strconv.Atoi(strings.TrimLeft(string(id), "0"))
		if n != 2 || !there(t, e, unit, sizes[unit%len(sizes)]) {
			t.Errorf("unit %s has %d facts", id, n)
		}
	}
	noOrphans(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d units acknowledged, %d there", kills, len(acknowledged), len(facts))
}

// fastDir is a directory in memory where the system has one: kill -9 takes
// nothing from the page cache, so that the test does not need the disk.
func fastDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anechoic-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// runAndKill starts a child, kills it after some acknowledgements, and gives
// them.
func runAndKill(t *testing.T, dir string, first int) (acknowledged []int) {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary)
	c.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s_FIRST=%d", killDir, first))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Errorf("the child says %q", lines.Text())
			break
		}
		if acknowledged = append(acknowledged, n); len(acknowledged) == 15 {
			_ = c.Process.Kill() // by its handle; what it still printed is read to the end
		}
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	return acknowledged
}
