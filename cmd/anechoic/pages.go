package main

import (
	"context"
	"net/url"
	"strconv"

	"anechoic/control/api"
)

// pages asks for the pages of a list until there are limit entries; 0: all. more says
// that there are others.
func pages[T any](ctx context.Context, limit int, query url.Values, ask func(context.Context, url.Values) (page []T, next string, err error)) (list []T, more bool, err error) {
	if limit < 0 {
		return nil, false, usagef("--limit %d is below nothing", limit)
	}
	list = []T{}
	for {
		size := api.MaxPage
		if limit > 0 {
			size = min(size, limit-len(list))
		}
		query.Set("limit", strconv.Itoa(size))
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		page, next, err := ask(ctx, query)
		cancel()
		if err != nil {
			return nil, false, err
		}
		list = append(list, page...)
		if next == "" || limit > 0 && len(list) >= limit {
			return list, next != "", nil
		}
		query.Set("page_token", next)
	}
}

// noteMore says that a list has more than was shown.
func (sh *shell) noteMore(more bool) {
	if more {
		sh.notef("there is more: say --limit 0 for all\n")
	}
}
