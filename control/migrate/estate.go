package migrate

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
)

// Options say what to read.
type Options struct {
	Main     string // main.cf, or a file with what postconf printed
	Master   string // empty: master.cf beside it, if there is one
	Users    string // who may log in; empty: nobody knows
	UserList string // the same as a text that was read already, in place of Users
	OpenDKIM string // opendkim.conf; empty: none
	Root     string // where the old machine's / is; empty: here
}

// Estate is the old configuration as it was read: values and entries, with where each
// stood.
type Estate struct {
	Main     *Settings
	MainFile string
	Services []Service // of master.cf
	DKIM     *OpenDKIM // nil: none
	Users    []User
	Networks []Network // of mynetworks
	Strays   []Setting // lines that are no setting

	files *files
}

// Read reads everything that is named, and goes on where something cannot be read. The
// error is main.cf's alone; what else could not be read, the Plan lists.
func Read(o Options) (*Estate, error) {
	f := &files{root: o.Root}
	text, err := f.get(o.Main)
	if err != nil {
		return nil, &ReadError{File: o.Main, Err: err}
	}
	e := &Estate{Main: parseMain(o.Main, text), MainFile: o.Main, files: f}
	e.Strays = e.Main.strays
	e.master(o)
	if o.OpenDKIM != "" {
		e.DKIM = f.openDKIM(Place{File: o.OpenDKIM}, o.OpenDKIM)
	}
	switch {
	case o.UserList != "":
		e.Users = parseUsers("standard input", o.UserList)
	case o.Users != "":
		if text, ok := f.read(Place{File: o.Users}, o.Users); ok {
			e.Users = parseUsers(o.Users, text)
		}
	}
	v := e.Main.Get("mynetworks")
	e.Networks = f.networks(v.At, split(v.Text), 0)
	if len(e.Networks) > maxNetworks {
		f.unread = append(f.unread, Unread{At: v.At, What: "mynetworks", Why: fmt.Sprintf("only the first %d of %d entries were looked at", maxNetworks, len(e.Networks))})
		e.Networks = e.Networks[:maxNetworks]
	}
	return e, nil
}

// maxNetworks bounds how many entries of mynetworks are compared with each other.
const maxNetworks = 5000

// ReadError says that the file everything begins with cannot be read.
type ReadError struct {
	File string
	Err  error
}

func (e *ReadError) Error() string {
	return "read " + printable(e.File) + ": " + printable(e.Err.Error()) + ": name main.cf with --main, or a file with the output of postconf"
}

func (e *ReadError) Unwrap() error { return e.Err }

// master reads master.cf. One that nobody named may be missing: postconf printed no such
// thing.
func (e *Estate) master(o Options) {
	name := cmp.Or(o.Master, filepath.Join(filepath.Dir(o.Main), "master.cf"))
	text, err := e.files.get(name)
	if err != nil {
		if o.Master != "" {
			e.files.unread = append(e.files.unread, Unread{At: Place{File: name}, What: printable(name), Why: printable(err.Error())})
		}
		return
	}
	services, strays := parseMaster(name, text)
	e.Services, e.Strays = services, append(e.Strays, strays...)
}

// listener is a network service that takes mail, with the settings that hold for it.
type listener struct {
	service  Service
	settings *Settings
}

// listeners are the smtpd services of master.cf; without one, main.cf alone.
func (e *Estate) listeners() (list []listener) {
	for _, s := range e.Services {
		if s.Command == "smtpd" && (s.Type == "inet" || s.Type == "pass") {
			list = append(list, listener{s, e.Main.over(s.Overrides)})
		}
	}
	if len(list) == 0 {
		list = append(list, listener{Service{Name: "smtp", Type: "inet", Command: "smtpd"}, e.Main})
	}
	return list
}

// settle gives what could not be read, each once.
func (e *Estate) settle() []Unread {
	list := slices.Clone(e.files.unread)
	slices.SortStableFunc(list, func(a, b Unread) int {
		return cmp.Or(cmp.Compare(a.At.String(), b.At.String()), cmp.Compare(a.What, b.What))
	})
	return slices.Compact(list)
}
