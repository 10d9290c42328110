package detect

// table is a map of at most max entries: whoever was not touched for longest makes
// room for a new one.
type table[K comparable, V any] struct {
	max     int
	entries map[K]*entry[K, V]
	oldest  *entry[K, V]
	newest  *entry[K, V]
	came    func(K, *V) // told of each that is new; nil: nobody is
	gone    func(K, *V) // told of each that makes room; nil: nobody is
}

type entry[K comparable, V any] struct {
	key          K
	value        V
	older, newer *entry[K, V]
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	return &table[K, V]{max: limit, entries: map[K]*entry[K, V]{}}
}

// find is the value of k, without touching it; nil if there is none.
func (t *table[K, V]) find(k K) *V {
	if e := t.entries[k]; e != nil {
		return &e.value
	}
	return nil
}

// touch is the value of k, which is the newest from now on; made says that it is new.
func (t *table[K, V]) touch(k K) (v *V, made bool) {
	e := t.entries[k]
	if e == nil {
		if len(t.entries) >= t.max {
			t.drop(t.oldest)
		}
		e, made = &entry[K, V]{key: k}, true
		t.entries[k] = e
		if t.came != nil {
			t.came(k, &e.value)
		}
	} else if t.newest == e {
		return &e.value, false
	} else {
		t.unlink(e)
	}
	e.older, e.newer = t.newest, nil
	if t.newest != nil {
		t.newest.newer = e
	} else {
		t.oldest = e
	}
	t.newest = e
	return &e.value, made
}

func (t *table[K, V]) drop(e *entry[K, V]) {
	if t.gone != nil {
		t.gone(e.key, &e.value)
	}
	t.unlink(e)
	delete(t.entries, e.key)
}

// remove takes the entry of k away, if there is one.
func (t *table[K, V]) remove(k K) {
	if e := t.entries[k]; e != nil {
		t.drop(e)
	}
}

func (t *table[K, V]) unlink(e *entry[K, V]) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		t.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		t.newest = e.older
	}
	e.older, e.newer = nil, nil
}

// each visits all entries, the oldest first.
func (t *table[K, V]) each(visit func(K, *V)) {
	for e := t.oldest; e != nil; {
		next := e.newer
		visit(e.key, &e.value)
		e = next
	}
}
