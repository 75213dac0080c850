package mongodb

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"orgservice/shared/org"
)

// NewID returns the hexadecimal form of a new ObjectID.
func (s *Store) NewID() string { return bson.NewObjectID().Hex() }

func (s *Store) InsertClaims(ctx context.Context, claims []org.Claim) (taken string, err error) {
	docs := make([]claimDoc, len(claims))
	for i, c := range claims {
		if docs[i], err = newClaimDoc(c); err != nil {
			return "", err
		}
	}
	_, err = s.claims.InsertMany(ctx, docs)
	var bulk mongo.BulkWriteException
	if isDuplicate := err != nil && isDuplicateKey(err); isDuplicate && errors.As(err, &bulk) && len(bulk.WriteErrors) == 1 {
		return claims[bulk.WriteErrors[0].Index].ID, nil
	}
	return "", convert("insert claims", err)
}

func (s *Store) Claim(ctx context.Context, id string) (org.Claim, error) {
	doc, err := findOne[claimDoc](ctx, s.claims, bson.D{{Key: "_id", Value: id}})
	return doc.claim(), convert("find claim", err)
}

func (s *Store) Claims(ctx context.Context) ([]org.Claim, error) {
	return findAll(ctx, s.claims, bson.D{}, claimDoc.claim)
}

func (s *Store) RetakeClaim(ctx context.Context, seen, next org.Claim) (bool, error) {
	filter, err := claimFilter(seen)
	if err != nil {
		return false, err
	}
	doc, err := newClaimDoc(next)
	if err != nil {
		return false, err
	}
	res, err := s.claims.ReplaceOne(ctx, filter, doc)
	if err != nil {
		return false, convert("retake claim", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) ReleaseClaim(ctx context.Context, seen org.Claim) error {
	filter, err := claimFilter(seen)
	if err != nil {
		return err
	}
	_, err = s.claims.DeleteOne(ctx, filter)
	return convert("release claim", err)
}

func claimFilter(c org.Claim) (bson.D, error) {
	doc, err := newClaimDoc(c)
	return bson.D{
		{Key: "_id", Value: doc.ID},
		{Key: "organization_id", Value: doc.OrganizationID},
		{Key: "operation_id", Value: doc.OperationID},
	}, err
}

func (s *Store) ReleaseOldClaims(ctx context.Context, organizationID string, ids []string, revision int64) error {
	return s.releaseClaims(ctx, organizationID, bson.D{
		{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}},
		{Key: "revision", Value: bson.D{{Key: "$lt", Value: revision}}},
	})
}

func (s *Store) ReleaseClaimsOf(ctx context.Context, organizationID, operationID string, keep []string) error {
	op, err := objectIDs(operationID)
	if err != nil {
		return err
	}
	return s.releaseClaims(ctx, organizationID, bson.D{
		{Key: "_id", Value: bson.D{{Key: "$nin", Value: append([]string{}, keep...)}}},
		{Key: "operation_id", Value: op[0]},
	})
}

func (s *Store) ReleaseAllClaims(ctx context.Context, organizationID string) error {
	return s.releaseClaims(ctx, organizationID, nil)
}

func (s *Store) releaseClaims(ctx context.Context, organizationID string, filter bson.D) error {
	id, err := objectIDs(organizationID)
	if err != nil {
		return err
	}
	_, err = s.claims.DeleteMany(ctx, append(bson.D{{Key: "organization_id", Value: id[0]}}, filter...))
	return convert("release claims", err)
}

func (s *Store) InsertOrganization(ctx context.Context, o org.Organization) error {
	doc, err := newOrganizationDoc(o)
	if err != nil {
		return err
	}
	_, err = s.organizations.InsertOne(ctx, doc)
	return convert("insert organization", err)
}

func (s *Store) Organization(ctx context.Context, id string) (org.Organization, error) {
	oid, err := bson.ObjectIDFromHex(id)
	if err != nil {
		// Nothing has this id.
		return org.Organization{}, convert("find organization", mongo.ErrNoDocuments)
	}
	doc, err := findOne[organizationDoc](ctx, s.organizations, bson.D{{Key: "_id", Value: oid}})
	return doc.organization(), convert("find organization", err)
}

func (s *Store) OrganizationByKey(ctx context.Context, key string) (org.Organization, error) {
	doc, err := findOne[organizationDoc](ctx, s.organizations, bson.D{{Key: "name_key", Value: key}})
	return doc.organization(), convert("find organization", err)
}

func (s *Store) OrganizationByClaim(ctx context.Context, claimID string) (org.Organization, error) {
	doc, err := findOne[organizationDoc](ctx, s.organizations, bson.D{{Key: "claims", Value: claimID}})
	return doc.organization(), convert("find organization", err)
}

func (s *Store) Organizations(ctx context.Context) ([]org.Organization, error) {
	return findAll(ctx, s.organizations, bson.D{}, organizationDoc.organization)
}

func (s *Store) UnfinishedOrganizations(ctx context.Context, before time.Time) ([]org.Organization, error) {
	return findAll(ctx, s.organizations,
		bson.D{{Key: "operation.touched_at", Value: bson.D{{Key: "$lte", Value: before}}}},
		organizationDoc.organization)
}

func (s *Store) ReplaceOrganization(ctx context.Context, o org.Organization) (bool, error) {
	revision := o.Revision
	o.Revision++
	doc, err := newOrganizationDoc(o)
	if err != nil {
		return false, err
	}
	res, err := s.organizations.ReplaceOne(ctx,
		bson.D{{Key: "_id", Value: doc.ID}, {Key: "revision", Value: revision}}, doc)
	if err != nil {
		return false, convert("replace organization", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) DeleteOrganization(ctx context.Context, id string, revision int64) error {
	oid, err := objectIDs(id)
	if err != nil {
		return err
	}
	_, err = s.organizations.DeleteOne(ctx,
		bson.D{{Key: "_id", Value: oid[0]}, {Key: "revision", Value: revision}})
	return convert("delete organization", err)
}

func (s *Store) InsertAdmin(ctx context.Context, a org.Admin) error {
	doc, err := newAdminDoc(a)
	if err != nil {
		return err
	}
	_, err = s.admins.InsertOne(ctx, doc)
	return convert("insert admin", err)
}

func (s *Store) Admin(ctx context.Context, organizationID, id string) (org.Admin, error) {
	ids, err := objectIDs(organizationID, id)
	if err != nil {
		return org.Admin{}, err
	}
	doc, err := findOne[adminDoc](ctx, s.admins,
		bson.D{{Key: "_id", Value: ids[1]}, {Key: "organization_id", Value: ids[0]}})
	return doc.admin(), convert("find admin", err)
}

func (s *Store) AdminByEmail(ctx context.Context, email string) (org.Admin, error) {
	doc, err := findOne[adminDoc](ctx, s.admins, bson.D{{Key: "email", Value: email}})
	return doc.admin(), convert("find admin", err)
}

func (s *Store) Admins(ctx context.Context) ([]org.Admin, error) {
	return findAll(ctx, s.admins, bson.D{}, adminDoc.admin)
}

func (s *Store) UpdateAdmin(ctx context.Context, a org.Admin) error {
	doc, err := newAdminDoc(a)
	if err != nil {
		return err
	}
	set := bson.D{{Key: "token_version", Value: doc.TokenVersion}, {Key: "updated_at", Value: doc.UpdatedAt}}
	if doc.Email != "" {
		set = append(set, bson.E{Key: "email", Value: doc.Email})
	}
	if doc.PasswordHash != "" {
		set = append(set, bson.E{Key: "password_hash", Value: doc.PasswordHash})
	}
	_, err = s.admins.UpdateOne(ctx, bson.D{
		{Key: "_id", Value: doc.ID},
		{Key: "organization_id", Value: doc.OrganizationID},
		{Key: "token_version", Value: bson.D{{Key: "$lt", Value: doc.TokenVersion}}},
	}, bson.D{{Key: "$set", Value: set}})
	return convert("update admin", err)
}

func (s *Store) RehashPassword(ctx context.Context, adminID, old, hash string) error {
	id, err := objectIDs(adminID)
	if err != nil {
		return err
	}
	_, err = s.admins.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: id[0]}, {Key: "password_hash", Value: old}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "password_hash", Value: hash}}}})
	return convert("rehash password", err)
}

func (s *Store) DeleteAdmin(ctx context.Context, id string) error {
	oid, err := objectIDs(id)
	if err != nil {
		return err
	}
	_, err = s.admins.DeleteOne(ctx, bson.D{{Key: "_id", Value: oid[0]}})
	return convert("delete admin", err)
}

func (s *Store) DeleteAdmins(ctx context.Context, organizationID string) error {
	id, err := objectIDs(organizationID)
	if err != nil {
		return err
	}
	_, err = s.admins.DeleteMany(ctx, bson.D{{Key: "organization_id", Value: id[0]}})
	return convert("delete admins", err)
}

func (s *Store) InsertSession(ctx context.Context, session org.Session) error {
	doc, err := newSessionDoc(session)
	if err != nil {
		return err
	}
	_, err = s.sessions.InsertOne(ctx, doc)
	return convert("insert session", err)
}

func (s *Store) Session(ctx context.Context, id string) (org.Session, error) {
	doc, err := findOne[sessionDoc](ctx, s.sessions, bson.D{{Key: "_id", Value: id}})
	return doc.session(), convert("find session", err)
}

func (s *Store) RotateSession(ctx context.Context, id, old, hash string) (bool, error) {
	res, err := s.sessions.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: id}, {Key: "refresh_hash", Value: old}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "refresh_hash", Value: hash}}}})
	if err != nil {
		return false, convert("rotate session", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) DeleteSession(ctx context.Context, id string) error {
	_, err := s.sessions.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return convert("delete session", err)
}

func (s *Store) DeleteSessions(ctx context.Context, organizationID string) error {
	id, err := objectIDs(organizationID)
	if err != nil {
		return err
	}
	_, err = s.sessions.DeleteMany(ctx, bson.D{{Key: "organization_id", Value: id[0]}})
	return convert("delete sessions", err)
}

func (s *Store) DeleteExpired(ctx context.Context, now time.Time) error {
	for _, c := range []*mongo.Collection{s.sessions, s.attempts} {
		_, err := c.DeleteMany(ctx, bson.D{{Key: "expires_at", Value: bson.D{{Key: "$lt", Value: now}}}})
		if err != nil {
			return convert("delete expired "+c.Name(), err)
		}
	}
	return nil
}

func (s *Store) CountAttempt(ctx context.Context, key string, now, expires time.Time) (org.Attempts, error) {
	var doc attemptsDoc
	var err error
	for range 2 {
		err = s.attempts.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: key}},
			bson.D{
				{Key: "$inc", Value: bson.D{{Key: "count", Value: int64(1)}}},
				{Key: "$setOnInsert", Value: bson.D{{Key: "since", Value: now}, {Key: "expires_at", Value: expires}}},
			},
			options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&doc)
		if err == nil || !isDuplicateKey(err) {
			break
		}
		// Two made the document at once; now there is one.
	}
	return org.Attempts{Count: doc.Count, Since: doc.Since.UTC()}, convert("count attempt", err)
}

func (s *Store) TakeBackAttempt(ctx context.Context, key string) error {
	_, err := s.attempts.UpdateOne(ctx, bson.D{{Key: "_id", Value: key}},
		bson.D{{Key: "$inc", Value: bson.D{{Key: "count", Value: int64(-1)}}}})
	return convert("take back attempt", err)
}

func (s *Store) ForgetAttempts(ctx context.Context, key string) error {
	_, err := s.attempts.DeleteOne(ctx, bson.D{{Key: "_id", Value: key}})
	return convert("forget attempts", err)
}

func (s *Store) CreateCollection(ctx context.Context, database, name string) error {
	return convert("create collection", s.client.Database(database).CreateCollection(ctx, name))
}

func (s *Store) RenameCollection(ctx context.Context, database, from, to string) error {
	err := s.client.Database("admin").RunCommand(ctx, bson.D{
		{Key: "renameCollection", Value: database + "." + from},
		{Key: "to", Value: database + "." + to},
		// A command that is run as it is does not get the client's.
		{Key: "writeConcern", Value: bson.D{{Key: "w", Value: "majority"}}},
	}).Err()
	return convert("rename collection", err)
}

func (s *Store) DropCollection(ctx context.Context, database, name string) error {
	return convert("drop collection", s.client.Database(database).Collection(name).Drop(ctx))
}

func (s *Store) CollectionIsEmpty(ctx context.Context, database, name string) (bool, error) {
	err := s.client.Database(database).Collection(name).FindOne(ctx, bson.D{},
		options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Err()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return true, nil
	}
	return false, convert("look into collection", err)
}

func (s *Store) CollectionExists(ctx context.Context, database, name string) (bool, error) {
	names, err := s.client.Database(database).ListCollectionNames(ctx, bson.D{{Key: "name", Value: name}})
	if err != nil {
		return false, convert("list collections", err)
	}
	return slices.Contains(names, name), nil
}

func (s *Store) Collections(ctx context.Context, database string) ([]string, error) {
	names, err := s.client.Database(database).ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return nil, convert("list collections", err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, org.CollectionPrefix)
	}), nil
}

// indexes are those that the service is fast and, behind the claims, safe
// with.
func (s *Store) indexes() []index {
	return []index{
		{collection: s.organizations, field: "name_key", unique: true},
		{collection: s.organizations, field: "claims"},
		{collection: s.organizations, field: "operation.touched_at"},
		{collection: s.admins, field: "email", unique: true},
		{collection: s.admins, field: "organization_id"},
		{collection: s.claims, field: "organization_id"},
		{collection: s.sessions, field: "organization_id"},
		{collection: s.sessions, field: "expires_at", expires: true},
		{collection: s.attempts, field: "expires_at", expires: true},
	}
}

// index is an ascending index on one field.
type index struct {
	collection *mongo.Collection
	field      string
	unique     bool
	expires    bool // MongoDB deletes a document at the time in the field
}

// name returns the index's full name, of which the part behind the collection's
// is what MongoDB calls such an index by itself.
func (i index) name() string { return i.collection.Name() + "." + i.field + "_1" }

func (s *Store) EnsureIndexes(ctx context.Context) error {
	missing, err := s.missingIndexes(ctx)
	if err != nil {
		return err
	}
	for _, i := range missing {
		model := mongo.IndexModel{Keys: bson.D{{Key: i.field, Value: 1}}, Options: options.Index().SetUnique(i.unique)}
		if i.expires {
			model.Options.SetExpireAfterSeconds(0)
		}
		_, err := i.collection.Indexes().CreateOne(ctx, model)
		if i.expires && isNotImplemented(err) { // as in the embedded database
			model.Options = nil
			_, err = i.collection.Indexes().CreateOne(ctx, model)
		}
		if err != nil {
			return convert("create index "+i.name(), err)
		}
	}
	return nil
}

func (s *Store) MissingIndexes(ctx context.Context) ([]string, error) {
	missing, err := s.missingIndexes(ctx)
	names := make([]string, len(missing))
	for i, index := range missing {
		names[i] = index.name()
	}
	return names, err
}

func (s *Store) missingIndexes(ctx context.Context) ([]index, error) {
	there := map[string][]mongo.IndexSpecification{} // by collection
	var missing []index
	for _, i := range s.indexes() {
		specs, listed := there[i.collection.Name()]
		if !listed {
			var err error
			specs, err = i.collection.Indexes().ListSpecifications(ctx)
			if err = convert("list indexes", err); err != nil && !errors.Is(err, org.ErrNotFound) {
				return nil, err
			}
			there[i.collection.Name()] = specs
		}
		if !slices.ContainsFunc(specs, func(spec mongo.IndexSpecification) bool { return spec.Name == i.field+"_1" }) {
			missing = append(missing, i)
		}
	}
	return missing, nil
}

func findOne[D any](ctx context.Context, c *mongo.Collection, filter bson.D) (D, error) {
	var doc D
	err := c.FindOne(ctx, filter).Decode(&doc)
	return doc, err
}

func findAll[D, T any](ctx context.Context, c *mongo.Collection, filter bson.D, turn func(D) T) ([]T, error) {
	cursor, err := c.Find(ctx, filter)
	if err != nil {
		return nil, convert("read "+c.Name(), err)
	}
	var docs []D
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, convert("read "+c.Name(), err)
	}
	all := make([]T, len(docs))
	for i, doc := range docs {
		all[i] = turn(doc)
	}
	return all, nil
}

// CountNamespaces returns how many collections and indexes the store's
// database has.
func (s *Store) CountNamespaces(ctx context.Context) (collections, indexes int, err error) {
	db := s.claims.Database()
	specs, err := db.ListCollectionSpecifications(ctx, bson.D{})
	if err != nil {
		return 0, 0, convert("list collections", err)
	}
	names := plainCollections(specs)
	for _, name := range names {
		specs, err := db.Collection(name).Indexes().ListSpecifications(ctx)
		if err != nil {
			return 0, 0, convert("list indexes", err)
		}
		indexes += len(specs)
	}
	return len(names), indexes, nil
}

// plainCollections returns the names of the collections whose indexes can be
// listed: neither views, which have none, nor time series, nor what MongoDB
// keeps for both, which a user of the database may not read.
func plainCollections(specs []mongo.CollectionSpecification) (names []string) {
	for _, spec := range specs {
		if spec.Type == "collection" && !strings.HasPrefix(spec.Name, "system.") {
			names = append(names, spec.Name)
		}
	}
	return names
}
