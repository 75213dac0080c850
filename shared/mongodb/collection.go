package mongodb

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/shared/org"
)

// checksCollections is the wire version of MongoDB 6.0, the first version whose
// commands take collectionUUID.
const checksCollections = 17

func (s *Store) ChecksCollections() bool { return s.wireVersion.Load() >= checksCollections }

// listCollections returns the collections that match the filter, without views,
// time series and the system collections behind them, whose indexes can't be
// listed.
func (s *Store) listCollections(ctx context.Context, database string, filter bson.D) ([]mongo.CollectionSpecification, error) {
	specs, err := s.client.Database(database).ListCollectionSpecifications(ctx, filter)
	return slices.DeleteFunc(specs, func(spec mongo.CollectionSpecification) bool { return !isPlain(spec) }),
		convert("list collections", err)
}

func isPlain(spec mongo.CollectionSpecification) bool {
	return spec.Type == "collection" && !strings.HasPrefix(spec.Name, "system.")
}

func (s *Store) Collections(ctx context.Context, database string, names ...string) ([]org.Collection, error) {
	filter := bson.D{}
	if len(names) > 0 {
		filter = bson.D{{Key: "name", Value: bson.D{{Key: "$in", Value: names}}}}
	}
	specs, err := s.listCollections(ctx, database, filter)
	if err != nil {
		return nil, err
	}
	var collections []org.Collection
	for _, spec := range specs {
		// Some compatible servers ignore the filter.
		if !strings.HasPrefix(spec.Name, org.CollectionPrefix) || len(names) > 0 && !slices.Contains(names, spec.Name) {
			continue
		}
		c := org.Collection{Name: spec.Name}
		if spec.UUID != nil {
			c.UUID = hex.EncodeToString(spec.UUID.Data)
		}
		collections = append(collections, c)
	}
	return collections, nil
}

func (s *Store) CreateCollection(ctx context.Context, database, name string) error {
	err := convert("create collection", s.client.Database(database).CreateCollection(ctx, name))
	if errors.Is(err, org.ErrConflict) {
		return nil // MongoDB 7.0 and newer return no error here
	}
	return err
}

func (s *Store) RenameCollection(ctx context.Context, database string, c org.Collection, to string) error {
	return s.run(ctx, "rename collection", "admin", database, c, bson.D{
		{Key: "renameCollection", Value: database + "." + c.Name},
		{Key: "to", Value: database + "." + to},
	})
}

func (s *Store) DropCollection(ctx context.Context, database string, c org.Collection) error {
	return s.run(ctx, "drop collection", database, database, c, bson.D{{Key: "drop", Value: c.Name}})
}

// run runs a command for the collection c of the database. If another collection
// has the name of c when the command arrives, it is not executed.
func (s *Store) run(ctx context.Context, doing, runIn, database string, c org.Collection, command bson.D) error {
	if c.UUID == "" || !s.ChecksCollections() {
		found, err := s.Collections(ctx, database, c.Name)
		if err != nil {
			return err
		}
		if len(found) == 0 || c.UUID != "" && found[0].UUID != c.UUID {
			return &org.Error{Kind: org.NotFound, Message: "there is no such collection"}
		}
		c = found[0]
	}
	// RunCommand does not add the client's write concern.
	command = append(command, bson.E{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}})
	if c.UUID != "" && s.ChecksCollections() {
		uuid, err := hex.DecodeString(c.UUID)
		if err != nil {
			return fmt.Errorf("%s: UUID %q: %w", doing, c.UUID, err)
		}
		command = append(command, bson.E{Key: "collectionUUID", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: uuid}})
	}
	return convert(doing, s.client.Database(runIn).RunCommand(ctx, command).Err())
}

func (s *Store) CollectionIsEmpty(ctx context.Context, database, name string) (bool, error) {
	err := s.client.Database(database).Collection(name).FindOne(ctx, bson.D{},
		options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return true, nil
	}
	return false, convert("look into collection", err)
}

// CountDocuments returns how many documents the server's statistics say that the
// collection has: 0 if it does not exist.
func (s *Store) CountDocuments(ctx context.Context, database, name string) (int64, error) {
	n, err := s.client.Database(database).Collection(name).EstimatedDocumentCount(ctx)
	return n, convert("count documents", err)
}

// CountNamespaces returns how many collections and indexes the store's
// database has.
func (s *Store) CountNamespaces(ctx context.Context) (collections, indexes int, err error) {
	db := s.claims.Database()
	specs, err := s.listCollections(ctx, db.Name(), bson.D{})
	if err != nil {
		return 0, 0, err
	}
	for _, spec := range specs {
		there, err := db.Collection(spec.Name).Indexes().ListSpecifications(ctx)
		if err != nil {
			return 0, 0, convert("list indexes", err)
		}
		indexes += len(there)
	}
	return len(specs), indexes, nil
}

// CountCollections returns how many collections the store's database has.
func (s *Store) CountCollections(ctx context.Context) (int, error) {
	names, err := s.claims.Database().ListCollectionNames(ctx, bson.D{})
	return len(names), convert("list collections", err)
}

// MaxConnections is how many connections a store has to a server at most, with the one that
// watches the server. In Lambda the driver has only one of these.
const MaxConnections = maxPoolSize + 1

const serverStatus = "serverStatus"

// Connections returns how many connections the server has, from whomever, and how many it
// accepts. Both are 0 where the server does not say: with MongoDB the user needs the role
// clusterMonitor.
func (s *Store) Connections(ctx context.Context) (open, limit int, err error) {
	var status struct {
		Connections struct{ Current, Available int }
	}
	err = s.client.Database("admin").RunCommand(ctx, bson.D{{Key: serverStatus, Value: 1}}).Decode(&status)
	var server mongo.ServerError
	if errors.As(err, &server) && slices.ContainsFunc(refusals, server.HasErrorCode) {
		return 0, 0, nil
	}
	c := status.Connections
	return c.Current, c.Current + c.Available, convert(serverStatus, err)
}
