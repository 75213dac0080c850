package org_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orgservice/shared/org"
)

// catalog is the collections of the simulated database. What the service asks
// of collections is in this file alone.
type catalog struct {
	collections map[string]collection // by name
	uuids       *int                  // how many there were ever, on any node

	// createAnew says that to create what exists succeeds, as it does from
	// MongoDB 7 on.
	createAnew bool
	// checks says that the server compares UUIDs, as it does from MongoDB 6
	// on.
	checks bool
}

// collection is a value: a change puts another one into the catalog.
type collection struct {
	uuid int
	docs []tenantDocument
}

// tenantDocument is what a tenant's own application has written.
type tenantDocument struct {
	id     int
	tenant string
	at     int // the step at which it was written
}

func newCatalog() catalog { return catalog{collections: map[string]collection{}, uuids: new(int)} }

func (c catalog) clone() catalog {
	c.collections = maps.Clone(c.collections)
	return c
}

func (c *catalog) make(name string) collection {
	*c.uuids++
	made := collection{uuid: *c.uuids}
	c.collections[name] = made
	return made
}

func (c *catalog) createCollection(name string) error {
	if _, exists := c.collections[name]; !exists {
		c.make(name)
	} else if !c.createAnew {
		return conflict("collection")
	}
	return nil
}

// is reports whether there is a collection of that name and, unless it is
// empty, UUID.
func (c *catalog) is(want org.Collection) bool {
	there, ok := c.collections[want.Name]
	return ok && (want.UUID == "" || uuidText(there.uuid) == want.UUID)
}

func uuidText(uuid int) string { return fmt.Sprint("#", uuid) }

func (c *catalog) renameCollection(from org.Collection, to string) error {
	if !c.is(from) {
		return notFound("collection")
	}
	if _, exists := c.collections[to]; exists {
		return conflict("collection")
	}
	c.collections[to] = c.collections[from.Name]
	delete(c.collections, from.Name)
	return nil
}

func (c *catalog) dropCollection(dropped org.Collection) error {
	if !c.is(dropped) {
		return notFound("collection")
	}
	delete(c.collections, dropped.Name)
	return nil
}

func (c *catalog) isEmpty(name string) (bool, error) { return len(c.collections[name].docs) == 0, nil }

func (c *catalog) list(names []string) (list []org.Collection, err error) {
	for _, name := range slices.Sorted(maps.Keys(c.collections)) {
		if len(names) == 0 || slices.Contains(names, name) {
			list = append(list, org.Collection{Name: name, UUID: uuidText(c.collections[name].uuid)})
		}
	}
	return list, nil
}

// insert adds a document, for which a missing collection is made, and returns
// the collection's UUID.
func (c *catalog) insert(name string, d tenantDocument) (uuid int) {
	there, ok := c.collections[name]
	if !ok {
		there = c.make(name)
	}
	there.docs = append(slices.Clip(there.docs), d)
	c.collections[name] = there
	return there.uuid
}

func (c *catalog) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.collections)) {
		fmt.Fprintf(&b, "%s=#%d with %d ", name, c.collections[name].uuid, len(c.collections[name].docs))
	}
	return b.String()
}

func (h *handle) ChecksCollections() bool { return h.sim.durable.checks }

func (h *handle) CreateCollection(ctx context.Context, _, name string) error {
	err := h.names(ctx, "CreateCollection", name, func(s *state) error { return s.createCollection(name) })
	if errors.Is(err, org.ErrConflict) {
		return nil
	}
	return err
}

func (h *handle) RenameCollection(ctx context.Context, _ string, from org.Collection, to string) error {
	from, err := h.checked(ctx, from)
	if err != nil {
		return err
	}
	return h.names(ctx, "RenameCollection", from.Name+from.UUID+" to "+to, func(s *state) error { return s.renameCollection(from, to) })
}

func (h *handle) DropCollection(ctx context.Context, _ string, c org.Collection) error {
	c, err := h.checked(ctx, c)
	if err != nil {
		return err
	}
	return h.names(ctx, "DropCollection", c.Name+c.UUID, func(s *state) error { return s.dropCollection(c) })
}

// checked compares the UUID before the command where the server does not, and
// returns what the command says of the collection.
func (h *handle) checked(ctx context.Context, c org.Collection) (org.Collection, error) {
	if c.UUID != "" && h.ChecksCollections() {
		return c, nil
	}
	found, err := do(ctx, h, "compare", listing, c.Name, func(s *state) ([]org.Collection, error) { return s.list([]string{c.Name}) })
	if err == nil && (len(found) == 0 || c.UUID != "" && found[0].UUID != c.UUID) {
		err = notFound("collection")
	}
	return org.Collection{Name: c.Name}, err
}

func (h *handle) CollectionIsEmpty(ctx context.Context, _, name string) (bool, error) {
	return do(ctx, h, "CollectionIsEmpty", read, name, func(s *state) (bool, error) { return s.isEmpty(name) })
}

func (h *handle) Collections(ctx context.Context, _ string, names ...string) ([]org.Collection, error) {
	return do(ctx, h, "Collections", listing, fmt.Sprint(names), func(s *state) ([]org.Collection, error) { return s.list(names) })
}
