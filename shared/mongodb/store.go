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

func (s *Store) ReplaceClaim(ctx context.Context, seen, next org.Claim) (bool, error) {
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
		return false, convert("replace claim", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) DeleteClaim(ctx context.Context, seen org.Claim) error {
	filter, err := claimFilter(seen)
	if err != nil {
		return err
	}
	_, err = s.claims.DeleteOne(ctx, filter)
	return convert("delete claim", err)
}

// claimFilter matches the claim as it was seen.
func claimFilter(c org.Claim) (bson.D, error) {
	doc, err := newClaimDoc(c)
	filter := bson.D{
		{Key: "_id", Value: doc.ID},
		{Key: "organization_id", Value: doc.OrganizationID},
		{Key: "revision", Value: doc.Revision},
	}
	if c.RestingSince.IsZero() {
		return append(filter, isResting(false)), err
	}
	return append(filter, bson.E{Key: "resting_since", Value: doc.RestingSince}), err
}

func isResting(resting bool) bson.E {
	return bson.E{Key: "resting_since", Value: bson.D{{Key: "$exists", Value: resting}}}
}

func (s *Store) ReleaseClaims(ctx context.Context, organizationID string, below int64, keep []string) error {
	filter, err := releaseFilter(organizationID, below, keep)
	if err != nil {
		return err
	}
	_, err = s.claims.DeleteMany(ctx, append(filter, isResting(false)))
	return convert("release claims", err)
}

func (s *Store) RestClaims(ctx context.Context, organizationID string, below int64, keep []string, since time.Time) error {
	filter, err := releaseFilter(organizationID, below, keep)
	if err != nil {
		return err
	}
	_, err = s.claims.UpdateMany(ctx, append(filter, isResting(false)),
		bson.D{{Key: "$set", Value: bson.D{{Key: "resting_since", Value: since}}}})
	return convert("rest claims", err)
}

func releaseFilter(organizationID string, below int64, keep []string) (bson.D, error) {
	id, err := objectIDs(organizationID)
	if err != nil {
		return nil, err
	}
	return bson.D{
		{Key: "organization_id", Value: id[0]},
		{Key: "revision", Value: bson.D{{Key: "$lt", Value: below}}},
		{Key: "_id", Value: bson.D{{Key: "$nin", Value: append([]string{}, keep...)}}},
	}, nil
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

func (s *Store) OrganizationByClaim(ctx context.Context, claimID string) (org.Organization, error) {
	doc, err := findOne[organizationDoc](ctx, s.organizations,
		bson.D{{Key: "claims", Value: claimID}, {Key: "status", Value: org.Active}})
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

func (s *Store) ReplaceOrganization(ctx context.Context, seen, next org.Organization) (bool, error) {
	next.Revision = seen.Revision + 1
	doc, err := newOrganizationDoc(next)
	if err != nil {
		return false, err
	}
	res, err := s.organizations.ReplaceOne(ctx, bson.D{
		{Key: "_id", Value: doc.ID}, {Key: "revision", Value: seen.Revision}, {Key: "status", Value: seen.Status},
	}, doc)
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

func (s *Store) AdminsByEmail(ctx context.Context, email string) ([]org.Admin, error) {
	return findAll(ctx, s.admins, bson.D{{Key: "email", Value: email}}, adminDoc.admin)
}

func (s *Store) Admins(ctx context.Context) ([]org.Admin, error) {
	return findAll(ctx, s.admins, bson.D{}, adminDoc.admin)
}

func (s *Store) UpdateAdmin(ctx context.Context, a org.Admin) error {
	doc, err := newAdminDoc(a)
	if err != nil {
		return err
	}
	set := bson.D{{Key: "revision", Value: doc.Revision}, {Key: "updated_at", Value: doc.UpdatedAt}}
	if doc.Email != "" {
		set = append(set, bson.E{Key: "email", Value: doc.Email})
	}
	if doc.PasswordHash != "" {
		set = append(set, bson.E{Key: "password_hash", Value: doc.PasswordHash})
	}
	if doc.TokenVersion != 0 {
		set = append(set, bson.E{Key: "token_version", Value: doc.TokenVersion})
	}
	_, err = s.admins.UpdateOne(ctx, bson.D{
		{Key: "_id", Value: doc.ID},
		{Key: "organization_id", Value: doc.OrganizationID},
		// The version before wrote no revision.
		{Key: "revision", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: doc.Revision}}}}},
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

// Clock asks the server, which tells the time in its greeting.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var hello struct {
		LocalTime time.Time `bson:"localTime"`
	}
	err := s.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	return hello.LocalTime, convert("ask for the time", err)
}
