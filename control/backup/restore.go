package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

// A restore works in a folder of the data directory to be. While that is there no
// relay starts (see Unfinished), and it goes as the last step:
//
//	stop                         what is there                     what happens
//	while it is unpacked         .restoring                        no relay starts; empty it, restore again
//	while the queue is held      .restoring                        the same
//	while things are moved       .restoring, some of the data      the same
//	after .restoring went        everything, the queue held        it is done
//
// An error, unlike a stop, leaves the directory as it was.

// ErrUnfinished says that a restore into a data directory did not finish.
var ErrUnfinished = errors.New("a restore into this data directory did not finish")

// Unfinished says that a data directory is the rest of a restore that was cut off, or
// of one that is going on. No relay may start on it.
func Unfinished(dataDir string) error {
	_, err := os.Lstat(filepath.Join(dataDir, restoringName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	}
	return fmt.Errorf("%s: %w: if none is going on, remove all that is in it and restore again", dataDir, ErrUnfinished)
}

// Target is where a backup is restored to.
type Target struct {
	DataDir   string // new, or empty
	ConfigDir string // new, or empty; "": the configuration is not restored
	By        string // who does it, for the ledger
	Progress  func(done, of int64)
}

// Restored is what a restore made.
type Restored struct {
	Manifest Manifest `json:"manifest"`
	DataDir  string   `json:"data_dir"`
	Config   []string `json:"config"` // files that were written
	Held     Held     `json:"held"`
	Missing  []string `json:"missing"` // files that the configuration names and that are not on this machine
}

// Held is what waits for a person to release it.
type Held struct {
	Messages   int `json:"messages"`
	Recipients int `json:"recipients"`
}

// Restore makes a data directory of a backup. Every recipient that was waiting in it
// is held, with mail.ReasonRestored, before the directory is one that a relay starts
// on; what is detained stays so. Both directories belong to this process's user; made
// by root in a directory of somebody else's, to that one.
func Restore(ctx context.Context, a *Archive, t Target) (r Restored, err error) {
	fail := func(err error) (Restored, error) { return r, fmt.Errorf("restore: %w", err) }
	u := &undo{}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.all())
		}
	}()
	r = Restored{Manifest: a.Manifest(), Config: []string{}, Missing: []string{}}
	if r.DataDir, err = filepath.Abs(t.DataDir); err != nil {
		return fail(err)
	}
	work := filepath.Join(r.DataDir, restoringName)
	if err := u.makeEmpty(r.DataDir, work); err != nil {
		return fail(err)
	}
	if err := checkRoom(work, r.Manifest.Octets()); err != nil {
		return fail(err)
	}
	place := dataPlace(work)
	if t.ConfigDir != "" {
		config, err := filepath.Abs(t.ConfigDir)
		if err == nil {
			err = u.makeEmpty(config, "")
		}
		if err != nil {
			return fail(err)
		}
		place = withConfig(place, t.ConfigDir, &r.Config)
	}
	if err := unpack(ctx, a, place, t.Progress); err != nil {
		return fail(err)
	}
	if r.Held, err = hold(ctx, work, r.Manifest, t.By); err != nil {
		return fail(err)
	}
	if err := u.adopt(r.DataDir, t.ConfigDir); err != nil {
		return fail(err)
	}
	if err := u.move(work, r.DataDir); err != nil {
		return fail(err)
	}
	r.Missing = r.Manifest.absent(t.ConfigDir)
	return r, nil
}

// withConfig also writes the files of the configuration, and notes them.
func withConfig(data func(string) string, dir string, written *[]string) func(string) string {
	return func(name string) string {
		rest, ok := strings.CutPrefix(name, configPrefix)
		if !ok {
			return data(name)
		}
		path := filepath.Join(dir, filepath.FromSlash(rest))
		*written = append(*written, path)
		return path
	}
}

// absent lists the files that lay elsewhere than beside relay.toml and are not where
// the configuration will look for them.
func (m Manifest) absent(configDir string) []string {
	list := []string{}
	for _, c := range m.Config {
		rest, apart := strings.CutPrefix(c.Name, configPrefix)
		if configDir != "" && !strings.HasPrefix(c.Name, outside) {
			if from := filepath.Join(configDir, filepath.FromSlash(rest)); apart && exists(from) {
				continue
			}
		}
		if !exists(c.Path) {
			list = append(list, fmt.Sprintf("%s (%s)", c.Path, c.Key))
		}
	}
	return append(list, m.Missing...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hold opens the store as a relay would, holds the whole queue, and writes down what
// was done. Nothing may be left that would be sent.
func hold(ctx context.Context, dir string, m Manifest, by string) (held Held, err error) {
	engine, err := local.Open(local.Options{Dir: filepath.Join(dir, storeName)})
	if err != nil {
		return held, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	key, err := readSealKey(dir)
	if err != nil {
		return held, err
	}
	queue, err := custody.OpenQueue(ctx, engine, custody.Options{SealKey: key})
	if err != nil {
		return held, err
	}
	defer queue.Close()
	if err := queue.Read(ctx); err != nil {
		return held, err
	}
	now := time.Now()
	done, err := queue.Hold(ctx, custody.Filter{By: by}, mail.ReasonRestored, now)
	if err != nil {
		return held, err
	}
	held = Held{Messages: done.Messages, Recipients: done.Recipients}
	left, err := custody.Survey(ctx, engine, key, false)
	if err != nil {
		return held, err
	}
	if left.Queued > 0 {
		return held, fmt.Errorf("%d recipients could not be held: nothing was restored", left.Queued)
	}
	detail := fmt.Sprintf("a backup of %s made on %s: %d recipients of %d messages held, %d detained; by %s",
		m.Hostname, m.Created.Format(time.RFC3339), held.Recipients, held.Messages, left.Detained, by)
	return held, engine.Commit(ctx, &custody.Batch{Facts: []ledger.Fact{{Time: now.UTC(), Event: ledger.Restored, Detail: detail}}})
}

// undo is what a restore made so far, to be taken back after an error.
type undo struct {
	made  []string // paths, removed with all that is in them
	empty []string // folders that were there and empty: what is in them is removed
}

func (u *undo) all() (err error) {
	for _, path := range u.made {
		err = errors.Join(err, os.RemoveAll(path))
	}
	for _, dir := range u.empty {
		entries, listed := contents(dir)
		err = errors.Join(err, listed)
		for _, e := range entries {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// contents is what is in a folder, but for what every file system of its own has.
func contents(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lost+found" }), err
}

// began says that a path is, or leads to, a folder of this restore: the data directory
// may lie in that of the configuration.
func (u *undo) began(path string) bool {
	for _, dir := range slices.Concat(u.made, u.empty) {
		if rel, err := filepath.Rel(path, dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return true
		}
	}
	return false
}

// makeEmpty makes a folder, or takes one that is there and empty, and begins to work
// in it. Two restores into one folder meet at the work folder, which one makes.
func (u *undo) makeEmpty(dir, work string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	made := os.Mkdir(dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	entries, err := contents(dir)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return u.began(filepath.Join(dir, e.Name())) })
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty (%s is in it): name a new or empty directory", dir, entries[0].Name())
	}
	if work != "" {
		if err := os.Mkdir(work, 0o700); err != nil {
			return err
		}
	}
	if made == nil {
		u.made = append(u.made, dir)
	} else {
		u.empty = append(u.empty, dir)
	}
	return nil
}

// adopt gives what root made to the owner of the directories it was made in.
func (u *undo) adopt(dirs ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || owner.Uid == 0 {
			continue
		}
		err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, int(owner.Uid), int(owner.Gid)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// move brings the data to its place. The work folder goes last.
func (u *undo) move(work, dir string) error {
	if err := syncTree(work); err != nil {
		return err
	}
	entries, err := os.ReadDir(work)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(work, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	if err := syncFolder(dir); err != nil {
		return err
	}
	if err := os.Remove(work); err != nil {
		return err
	}
	return syncFolder(dir)
}
