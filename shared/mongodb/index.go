package mongodb

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/shared/org"
)

// indexTimeout limits the time for building indexes, if the context does not.
const indexTimeout = 10 * time.Minute

// indexes returns the indexes that the service needs to be fast. None of them is
// unique: claims keep names and emails unique.
func (s *Store) indexes() []index {
	return []index{
		{collection: s.organizations, field: "claims"},
		{collection: s.organizations, field: "operation.touched_at"},
		{collection: s.admins, field: "email"},
		{collection: s.admins, field: "organization_id"},
		{collection: s.claims, field: "organization_id"},
		{collection: s.claims, field: "admin_id"},
		{collection: s.sessions, field: "organization_id"},
		{collection: s.sessions, field: "admin_id"},
		{collection: s.sessions, field: "expires_at", expires: true},
		{collection: s.tickets, field: "organization_id"},
		{collection: s.tickets, field: "created_at"},
		{collection: s.tickets, field: "expires_at", expires: true},
		{collection: s.attempts, field: "expires_at", expires: true},
		{collection: s.keys, field: "expires_at", expires: true},
	}
}

// obsoleteIndexes returns the unique indexes that older versions of the service
// made. They would refuse an admin whose email a crash has left on another one.
func (s *Store) obsoleteIndexes() []index {
	return []index{
		{collection: s.organizations, field: "name_key"},
		{collection: s.admins, field: "email"},
	}
}

// index is an ascending index on one field.
type index struct {
	collection *mongo.Collection
	field      string
	expires    bool // MongoDB deletes a document at the time in the field
}

// name returns the name of the collection and MongoDB's default name of such an
// index.
func (i index) name() string { return i.collection.Name() + "." + i.field + "_1" }

// find returns the specification that has the key of the index and any name, or
// nil if there is none.
func (i index) find(specs []mongo.IndexSpecification, unique bool) *mongo.IndexSpecification {
	for _, spec := range specs {
		elements, err := spec.KeysDocument.Elements()
		if err == nil && len(elements) == 1 && elements[0].Key() == i.field && (spec.Unique != nil && *spec.Unique) == unique {
			return &spec
		}
	}
	return nil
}

func (s *Store) EnsureIndexes(ctx context.Context) (failed map[string]error, err error) {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	there, err := s.indexSpecifications(ctx)
	if err != nil {
		return nil, err
	}
	failed = map[string]error{}
	for _, i := range s.obsoleteIndexes() {
		if spec := i.find(there[i.collection.Name()], true); spec != nil {
			if err := i.collection.Indexes().DropOne(ctx, spec.Name); err != nil {
				failed[i.name()] = convert("drop index", err)
			}
		}
	}
	for _, i := range s.indexes() {
		if i.find(there[i.collection.Name()], false) != nil {
			continue
		}
		model := mongo.IndexModel{Keys: bson.D{{Key: i.field, Value: 1}}}
		if i.expires {
			model.Options = options.Index().SetExpireAfterSeconds(0)
		}
		_, err := i.collection.Indexes().CreateOne(ctx, model)
		if i.expires && isNotImplemented(err) { // as in the embedded database
			model.Options = nil
			_, err = i.collection.Indexes().CreateOne(ctx, model)
		}
		if err != nil {
			failed[i.name()] = convert("create index", err)
		}
	}
	return failed, nil
}

func (s *Store) MissingIndexes(ctx context.Context) ([]string, error) {
	there, err := s.indexSpecifications(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, i := range s.indexes() {
		if i.find(there[i.collection.Name()], false) == nil {
			missing = append(missing, i.name())
		}
	}
	return missing, nil
}

// indexSpecifications returns the existing indexes of each collection.
func (s *Store) indexSpecifications(ctx context.Context) (map[string][]mongo.IndexSpecification, error) {
	there := map[string][]mongo.IndexSpecification{}
	for _, i := range s.indexes() {
		c := i.collection
		if _, read := there[c.Name()]; read {
			continue
		}
		specs, err := c.Indexes().ListSpecifications(ctx)
		if err = convert("list indexes", err); err != nil && !errors.Is(err, org.ErrNotFound) {
			return nil, err
		}
		there[c.Name()] = specs
	}
	return there, nil
}
