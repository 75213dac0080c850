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

// catalog holds the collections of the simulated database. This file has all
// commands on them.
type catalog struct {
	collections map[string]collection // by name
	uuidCount   *int                  // how many were ever used, on all nodes

	// idempotentCreate means that the creation of a collection that exists
	// succeeds, as from MongoDB 7.0 on.
	idempotentCreate bool
	// comparesUUIDs means that the server compares UUIDs, as from MongoDB 6.0
	// on.
	comparesUUIDs bool
	// hidesUUIDs means that the server does not report UUIDs.
	hidesUUIDs bool
}

// collection is a value. A change stores another one in the catalog.
type collection struct {
	uuid int
	docs []tenantDocument
}

// tenantDocument is a document that a tenant's application has written.
type tenantDocument struct {
	id     int
	tenant string
	at     int // the step at which it was written
}

func newCatalog() catalog { return catalog{collections: map[string]collection{}, uuidCount: new(int)} }

func (c catalog) clone() catalog {
	c.collections = maps.Clone(c.collections)
	return c
}

func (c *catalog) make(name string) collection {
	*c.uuidCount++
	made := collection{uuid: *c.uuidCount}
	c.collections[name] = made
	return made
}

func (c *catalog) createCollection(name string) error {
	if _, exists := c.collections[name]; !exists {
		c.make(name)
	} else if !c.idempotentCreate {
		return conflict("collection")
	}
	return nil
}

// matches reports whether there is a collection of the name and the UUID. An
// empty UUID matches any collection.
func (c *catalog) matches(want org.Collection) bool {
	stored, ok := c.collections[want.Name]
	return ok && (want.UUID == "" || uuidText(stored.uuid) == want.UUID)
}

func uuidText(uuid int) string { return fmt.Sprint("#", uuid) }

func (c *catalog) renameCollection(from org.Collection, to string) error {
	if !c.matches(from) {
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
	if !c.matches(dropped) {
		return notFound("collection")
	}
	delete(c.collections, dropped.Name)
	return nil
}

func (c *catalog) isEmpty(name string) (bool, error) { return len(c.collections[name].docs) == 0, nil }

func (c *catalog) list(names []string) (list []org.Collection, err error) {
	for _, name := range slices.Sorted(maps.Keys(c.collections)) {
		if len(names) == 0 || slices.Contains(names, name) {
			found := org.Collection{Name: name, UUID: uuidText(c.collections[name].uuid)}
			if c.hidesUUIDs {
				found.UUID = ""
			}
			list = append(list, found)
		}
	}
	return list, nil
}

// insert inserts a document and returns the UUID of its collection. If there is
// no collection of the name, insert makes it.
func (c *catalog) insert(name string, d tenantDocument) (uuid int) {
	stored, ok := c.collections[name]
	if !ok {
		stored = c.make(name)
	}
	stored.docs = append(slices.Clip(stored.docs), d)
	c.collections[name] = stored
	return stored.uuid
}

func (c *catalog) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.collections)) {
		fmt.Fprintf(&b, "%s=#%d with %d ", name, c.collections[name].uuid, len(c.collections[name].docs))
	}
	return b.String()
}

func (h *handle) ChecksCollections() bool { return h.sim.durable.comparesUUIDs }

func (h *handle) CreateCollection(ctx context.Context, _, name string) error {
	err := h.changeCatalog(ctx, "CreateCollection", name, func(s *state) error { return s.createCollection(name) })
	if errors.Is(err, org.ErrConflict) {
		return nil
	}
	return err
}

func (h *handle) RenameCollection(ctx context.Context, _ string, from org.Collection, to string) error {
	from, err := h.compareFirst(ctx, from)
	if err != nil {
		return err
	}
	return h.changeCatalog(ctx, "RenameCollection", from.Name+from.UUID+" to "+to, func(s *state) error { return s.renameCollection(from, to) })
}

func (h *handle) DropCollection(ctx context.Context, _ string, c org.Collection) error {
	c, err := h.compareFirst(ctx, c)
	if err != nil {
		return err
	}
	return h.changeCatalog(ctx, "DropCollection", c.Name+c.UUID, func(s *state) error { return s.dropCollection(c) })
}

// compareFirst compares the UUID if the server does not. It returns the
// collection as it is in the command that follows.
func (h *handle) compareFirst(ctx context.Context, c org.Collection) (org.Collection, error) {
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

func (h *handle) CountDocuments(ctx context.Context, _, name string) (int64, error) {
	return do(ctx, h, "CountDocuments", read, name, func(s *state) (int64, error) { return int64(len(s.collections[name].docs)), nil })
}

func (h *handle) Collections(ctx context.Context, _ string, names ...string) ([]org.Collection, error) {
	return do(ctx, h, "Collections", listing, fmt.Sprint(names), func(s *state) ([]org.Collection, error) { return s.list(names) })
}
