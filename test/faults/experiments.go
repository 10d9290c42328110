package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anechoic/test/faults/rig"
)

const (
	senders        = 6
	longestStart   = 400 * time.Millisecond // of a process that is killed while it may not be ready yet
	longestLife    = 800 * time.Millisecond // of one that is harmed under load, from when it is ready
	endBound       = 10 * time.Second       // for a process whose disk failed to end by itself
	longestWeather = 6 * time.Second        // between two kills while next hops fail
	chaos          = 0.06                   // the chance of a fault at each step of a next hop
)

// experiment makes a rig, has do harm it, and accounts. do gives the process that
// runs in the end.
func experiment(ctx context.Context, name string, o rig.Options, do func(*rig.Rig) (*rig.Process, []string, error)) (result row) {
	result.name = name
	r, err := rig.New(o)
	if err != nil {
		result.problems = []string{err.Error()}
		return result
	}
	defer func() {
		if err := r.Close(); err != nil {
			result.problems = append(result.problems, err.Error())
		}
	}()
	load := r.StartLoad(senders)
	last, notes, err := do(r)
	if result.notes = notes; err != nil {
		load.Stop()
		r.Problem(err)
		result.problems, result.said = r.Problems(), r.Said()
		return result
	}
	a := r.Finish(ctx, last, load)
	result.cells = fmt.Sprintf("%d | %d | %d | %d | %d | %d | %d", a.Acknowledged, a.Delivered, a.Bounced, a.Lost, a.Repeated, a.Unexplained, a.InFlight)
	result.notes = append(result.notes, fmt.Sprintf("%d starts, %d times put off with a 4yz", a.Starts, load.PutOff()))
	if result.problems = r.Problems(); len(result.problems) > 0 {
		result.said = r.Said()
	}
	return result
}

// kills kills processes, three of four under load, the others while they start.
func kills(ctx context.Context, o options) row {
	name := fmt.Sprintf("%d × kill -9", o.kills)
	return experiment(ctx, name, rig.Options{Say: o.say}, func(r *rig.Rig) (*rig.Process, []string, error) {
		for n := 1; n <= o.kills && ctx.Err() == nil; n++ {
			if err := killOne(r); err != nil {
				return nil, nil, err
			}
			if n%50 == 0 {
				o.say("%d of %d kills", n, o.kills)
			}
		}
		last, err := r.StartReady()
		return last, nil, err
	})
}

func killOne(r *rig.Rig) error {
	if rand.IntN(4) == 0 {
		p, err := r.Start()
		if err != nil {
			return err
		}
		return p.KillWithin(longestStart)
	}
	p, err := r.StartReady()
	if err != nil {
		return err
	}
	return p.KillWithin(longestLife)
}

// powerCuts takes the disk's power away: by turns its file is copied right after
// a kill, and the file system drops what is not on disk while the relay runs,
// which must then end by itself.
func powerCuts(ctx context.Context, o options) row {
	name := fmt.Sprintf("%d × power cut (ext4)", o.powerCuts)
	disk, err := rig.NewDisk(o.dir)
	if err != nil {
		return row{name: name, notes: []string{"left out: " + err.Error()}}
	}
	result := experiment(ctx, name, rig.Options{Say: o.say, DataDir: filepath.Join(disk.Mount(), "data")}, func(r *rig.Rig) (*rig.Process, []string, error) {
		var slowest time.Duration
		for n := 1; n <= o.powerCuts && ctx.Err() == nil; n++ {
			took, err := cutOne(r, disk, n%2 == 0)
			if err != nil {
				return nil, nil, fmt.Errorf("power cut %d: %w", n, err)
			}
			slowest = max(slowest, took)
			o.say("%d of %d power cuts", n, o.powerCuts)
		}
		last, err := r.StartReady()
		return last, []string{fmt.Sprintf("a relay whose disk failed ended by itself, at the latest after %s", slowest.Round(time.Millisecond))}, err
	})
	if err := disk.Close(); err != nil {
		result.problems = append(result.problems, err.Error())
	}
	return result
}

func cutOne(r *rig.Rig, disk *rig.Disk, fromInside bool) (took time.Duration, err error) {
	p, err := r.StartReady()
	if err != nil {
		return 0, err
	}
	if !fromInside {
		return 0, errors.Join(p.KillWithin(longestLife), disk.CutByCopy())
	}
	time.Sleep(rand.N(longestLife))
	// While ext4 is shut down it may tell a sync that is under way that it succeeded,
	// and drop what was synced: a disk that lies. So no sync is under way.
	if err := errors.Join(p.Pause(), disk.Fail(), p.Resume()); err != nil {
		return 0, errors.Join(err, p.Kill())
	}
	code, took, err := p.AwaitEnd(endBound)
	if err == nil && code != 1 {
		err = fmt.Errorf("a relay whose disk failed ended with %d, not with 1", code)
	}
	return took, errors.Join(err, disk.Repair())
}

// weather has next hops and DNS fail for a while. The relay is killed now and then,
// because it learns: a destination that fails is left alone, for longer each time.
func weather(ctx context.Context, o options) row {
	span := time.Duration(o.minutes * float64(time.Minute))
	name := fmt.Sprintf("%s of failing next hops and DNS", span)
	return experiment(ctx, name, rig.Options{Say: o.say, Seed: o.seed, Chaos: chaos}, func(r *rig.Rig) (*rig.Process, []string, error) {
		end := r.Weather(o.seed)
		killed := 0
		for over := time.Now().Add(span); time.Now().Before(over) && ctx.Err() == nil; killed++ {
			p, err := r.StartReady()
			if err == nil {
				err = p.KillWithin(longestWeather)
			}
			if err != nil {
				end()
				return nil, nil, err
			}
		}
		end()
		r.Hop.Calm()
		last, err := r.StartReady()
		return last, []string{fmt.Sprintf("seed %d, %d kills", o.seed, killed), "next hops did wrong: " + ranked(r.Hop.Faults())}, err
	})
}

// ranked writes counts, the largest first.
func ranked(counts map[string]int) string {
	var names, texts []string
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(counts[b]-counts[a], strings.Compare(a, b)) })
	for _, name := range names {
		texts = append(texts, fmt.Sprintf("%s %d ×", name, counts[name]))
	}
	return strings.Join(texts, "; ")
}
