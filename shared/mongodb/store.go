package mongodb

import (
	"context"
	"errors"
	"strconv"
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
		docs[i] = newClaimDoc(c)
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
	res, err := s.claims.ReplaceOne(ctx, claimFilter(seen), newClaimDoc(next))
	if err != nil {
		return false, convert("replace claim", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) DeleteClaim(ctx context.Context, seen org.Claim) error {
	_, err := s.claims.DeleteOne(ctx, claimFilter(seen))
	return convert("delete claim", err)
}

// claimFilter matches the claim as it was seen.
func claimFilter(c org.Claim) bson.D {
	filter := bson.D{
		{Key: "_id", Value: c.ID},
		isOwnedBy(c.Owner),
		{Key: "revision", Value: c.Revision},
	}
	if c.RestingSince.IsZero() {
		return append(filter, isResting(false))
	}
	return append(filter, bson.E{Key: "resting_since", Value: c.RestingSince})
}

func isOwnedBy(owner org.Owner) bson.E {
	if owner.AdminID != "" {
		return bson.E{Key: "admin_id", Value: objectID(owner.AdminID)}
	}
	return bson.E{Key: "organization_id", Value: objectID(owner.OrganizationID)}
}

func isResting(resting bool) bson.E {
	return bson.E{Key: "resting_since", Value: bson.D{{Key: "$exists", Value: resting}}}
}

func (s *Store) ReleaseClaims(ctx context.Context, owner org.Owner, below int64, keep []string) error {
	_, err := s.claims.DeleteMany(ctx, releaseFilter(owner, below, keep))
	return convert("release claims", err)
}

func (s *Store) RestClaims(ctx context.Context, organizationID string, below int64, keep []string, since time.Time) error {
	_, err := s.claims.UpdateMany(ctx, releaseFilter(org.Owner{OrganizationID: organizationID}, below, keep),
		bson.D{{Key: "$set", Value: bson.D{{Key: "resting_since", Value: since}}}})
	return convert("rest claims", err)
}

func releaseFilter(owner org.Owner, below int64, keep []string) bson.D {
	return bson.D{
		isOwnedBy(owner),
		{Key: "revision", Value: bson.D{{Key: "$lt", Value: below}}},
		{Key: "_id", Value: bson.D{{Key: "$nin", Value: append([]string{}, keep...)}}},
		isResting(false),
	}
}

func (s *Store) InsertOrganization(ctx context.Context, o org.Organization) error {
	_, err := s.organizations.InsertOne(ctx, newOrganizationDoc(o))
	return convert("insert organization", err)
}

func (s *Store) Organization(ctx context.Context, id string) (org.Organization, error) {
	if _, err := bson.ObjectIDFromHex(id); err != nil {
		// No organization has this id.
		return org.Organization{}, convert("find organization", mongo.ErrNoDocuments)
	}
	doc, err := findOne[organizationDoc](ctx, s.organizations, bson.D{{Key: "_id", Value: objectID(id)}})
	return doc.organization(), convert("find organization", err)
}

func (s *Store) OrganizationByClaim(ctx context.Context, claimID string) (org.Organization, error) {
	doc, err := findOne[organizationDoc](ctx, s.organizations,
		bson.D{{Key: "claims", Value: claimID}, {Key: "status", Value: org.Active}})
	return doc.organization(), convert("find organization", err)
}

func (s *Store) OrganizationsByID(ctx context.Context, ids []string) ([]org.Organization, error) {
	return findAll(ctx, s.organizations, isOneOf(ids), organizationDoc.organization)
}

func (s *Store) Organizations(ctx context.Context) ([]org.Organization, error) {
	return findAll(ctx, s.organizations, bson.D{}, organizationDoc.organization)
}

func (s *Store) CountOrganizations(ctx context.Context) (int64, error) {
	n, err := s.organizations.EstimatedDocumentCount(ctx)
	return n, convert("count organizations", err)
}

func (s *Store) OrganizationsAfter(ctx context.Context, after, prefix string, status org.Status, limit int) ([]org.Organization, error) {
	filter := bson.D{}
	if after != "" {
		filter = append(filter, bson.E{Key: "_id", Value: bson.D{{Key: "$gt", Value: objectID(after)}}})
	}
	if prefix != "" {
		begins := bson.D{{Key: "$gte", Value: prefix}, {Key: "$lt", Value: prefix + "\U0010ffff"}}
		filter = append(filter, bson.E{Key: "$or", Value: bson.A{
			bson.D{{Key: "collection_name", Value: begins}}, bson.D{{Key: "deletion.collection_name", Value: begins}},
		}})
	}
	if status != "" {
		filter = append(filter, bson.E{Key: "status", Value: status})
	}
	return findAll(ctx, s.organizations, filter, organizationDoc.organization,
		options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(limit)))
}

func (s *Store) UnfinishedOrganizations(ctx context.Context, before time.Time) ([]org.Organization, error) {
	return findAll(ctx, s.organizations,
		bson.D{{Key: "operation.touched_at", Value: bson.D{{Key: "$lte", Value: before}}}},
		organizationDoc.organization)
}

func (s *Store) ReplaceOrganization(ctx context.Context, seen, next org.Organization) (bool, error) {
	next.Revision = seen.Revision + 1
	res, err := s.organizations.ReplaceOne(ctx, bson.D{
		{Key: "_id", Value: objectID(next.ID)}, {Key: "revision", Value: seen.Revision}, {Key: "status", Value: seen.Status},
	}, newOrganizationDoc(next))
	if err != nil {
		return false, convert("replace organization", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) FenceOrganizations(ctx context.Context, ids []string) error {
	// Nothing can follow on a deletion.
	alive := bson.E{Key: "status", Value: bson.D{{Key: "$ne", Value: org.Deleting}}}
	_, err := s.organizations.UpdateMany(ctx, append(isOneOf(ids), alive),
		bson.D{{Key: "$inc", Value: bson.D{{Key: "revision", Value: int64(1)}}}})
	return convert("fence organizations", err)
}

func (s *Store) DeleteOrganization(ctx context.Context, id string, revision int64) error {
	_, err := s.organizations.DeleteOne(ctx, bson.D{{Key: "_id", Value: objectID(id)}, {Key: "revision", Value: revision}})
	return convert("delete organization", err)
}

func (s *Store) InsertAdmin(ctx context.Context, a org.Admin) error {
	_, err := s.admins.InsertOne(ctx, newAdminDoc(a))
	return convert("insert admin", err)
}

func (s *Store) Admin(ctx context.Context, id string) (org.Admin, error) {
	if _, err := bson.ObjectIDFromHex(id); err != nil {
		// No admin has this id.
		return org.Admin{}, convert("find admin", mongo.ErrNoDocuments)
	}
	doc, err := findOne[adminDoc](ctx, s.admins, bson.D{{Key: "_id", Value: objectID(id)}})
	return doc.admin(), convert("find admin", err)
}

func (s *Store) AdminsByID(ctx context.Context, ids []string) ([]org.Admin, error) {
	return findAll(ctx, s.admins, isOneOf(ids), adminDoc.admin)
}

func (s *Store) AdminsByEmail(ctx context.Context, email string) ([]org.Admin, error) {
	return findAll(ctx, s.admins, bson.D{{Key: "email", Value: email}}, adminDoc.admin)
}

func (s *Store) Admins(ctx context.Context) ([]org.Admin, error) {
	return findAll(ctx, s.admins, bson.D{}, adminDoc.admin)
}

func (s *Store) ReplaceAdmin(ctx context.Context, seen, next org.Admin) (bool, error) {
	next.Revision = seen.Revision + 1
	res, err := s.admins.ReplaceOne(ctx, bson.D{{Key: "_id", Value: objectID(next.ID)}, hasRevision(seen.Revision)}, newAdminDoc(next))
	if err != nil {
		return false, convert("replace admin", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) RehashPassword(ctx context.Context, adminID, old, hash string) error {
	_, err := s.admins.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: objectID(adminID)}, {Key: "password_hash", Value: old}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "password_hash", Value: hash}}}})
	return convert("rehash password", err)
}

func (s *Store) DeleteAdmin(ctx context.Context, id string, revision int64) error {
	_, err := s.admins.DeleteOne(ctx, bson.D{{Key: "_id", Value: objectID(id)}, hasRevision(revision)})
	return convert("delete admin", err)
}

func (s *Store) DeleteAdmins(ctx context.Context, ids []string, organizationID string) error {
	id := objectID(organizationID)
	alone := bson.A{
		bson.D{{Key: "organizations", Value: []objectID{}}},
		bson.D{{Key: "organizations", Value: []objectID{id}}},
		// Older versions wrote no list.
		bson.D{{Key: "organizations", Value: bson.D{{Key: "$exists", Value: false}}}, {Key: "organization_id", Value: id}},
	}
	_, err := s.admins.DeleteMany(ctx, append(isOneOf(ids), bson.E{Key: "$or", Value: alone}))
	return convert("delete admins", err)
}

func (s *Store) LeaveOrganization(ctx context.Context, ids []string, organizationID string) error {
	_, err := s.admins.UpdateMany(ctx, isOneOf(ids), bson.D{
		{Key: "$pull", Value: bson.D{{Key: "organizations", Value: objectID(organizationID)}}},
		{Key: "$inc", Value: bson.D{{Key: "revision", Value: int64(1)}}},
	})
	return convert("leave organization", err)
}

func (s *Store) UseOrganization(ctx context.Context, adminID, organizationID string) error {
	_, err := s.admins.UpdateOne(ctx, bson.D{{Key: "_id", Value: objectID(adminID)}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "organization_id", Value: objectID(organizationID)}}}})
	return convert("use organization", err)
}

// isOneOf matches the documents of these ids. For one id it does not use $in, for which
// the embedded database reads the whole collection.
func isOneOf(ids []string) bson.D {
	if len(ids) == 1 {
		return bson.D{{Key: "_id", Value: objectID(ids[0])}}
	}
	all := make([]objectID, len(ids))
	for i, id := range ids {
		all[i] = objectID(id)
	}
	return bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: all}}}}
}

// hasRevision matches the records of admins of that revision. Older versions wrote
// none.
func hasRevision(revision int64) bson.E {
	if revision == 0 {
		return bson.E{Key: "revision", Value: bson.D{{Key: "$exists", Value: false}}}
	}
	return bson.E{Key: "revision", Value: revision}
}

func (s *Store) InsertSession(ctx context.Context, session org.Session) error {
	_, err := s.sessions.InsertOne(ctx, newSessionDoc(session))
	return convert("insert session", err)
}

func (s *Store) Session(ctx context.Context, id string) (org.Session, error) {
	doc, err := findOne[sessionDoc](ctx, s.sessions, bson.D{{Key: "_id", Value: id}})
	return doc.session(), convert("find session", err)
}

func (s *Store) SessionsOf(ctx context.Context, adminID string) ([]org.Session, error) {
	return findAll(ctx, s.sessions, bson.D{{Key: "admin_id", Value: objectID(adminID)}}, sessionDoc.session, options.Find().SetLimit(org.MostSessionsOf))
}

func (s *Store) EndSessions(ctx context.Context, ids []string) error {
	_, err := s.sessions.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	return convert("end sessions", err)
}

func (s *Store) DeleteOtherSessions(ctx context.Context, adminID string, keep ...string) error {
	_, err := s.sessions.DeleteMany(ctx, bson.D{
		{Key: "admin_id", Value: objectID(adminID)}, {Key: "_id", Value: bson.D{{Key: "$nin", Value: keep}}},
	})
	return convert("delete other sessions", err)
}

func (s *Store) RotateSession(ctx context.Context, id, old, hash string, used time.Time) (bool, error) {
	res, err := s.sessions.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: id}, {Key: "refresh_hash", Value: old}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "refresh_hash", Value: hash}, {Key: "used_at", Value: used}}}})
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
	_, err := s.sessions.DeleteMany(ctx, bson.D{{Key: "organization_id", Value: objectID(organizationID)}})
	return convert("delete sessions", err)
}

func (s *Store) DeleteSessionsSince(ctx context.Context, organizationID, act string) error {
	since := bson.E{Key: "last_act_id", Value: objectID(act)}
	if act == "" {
		since.Value = bson.D{{Key: "$exists", Value: false}}
	}
	_, err := s.sessions.DeleteMany(ctx, bson.D{{Key: "organization_id", Value: objectID(organizationID)}, since})
	return convert("delete sessions since an act", err)
}

func (s *Store) DeleteSessionsOf(ctx context.Context, adminID, organizationID string) error {
	_, err := s.sessions.DeleteMany(ctx, bson.D{
		{Key: "organization_id", Value: objectID(organizationID)}, {Key: "admin_id", Value: objectID(adminID)},
	})
	return convert("delete sessions of an admin", err)
}

func (s *Store) InsertTicket(ctx context.Context, t org.Ticket) error {
	_, err := s.tickets.InsertOne(ctx, newTicketDoc(t))
	return convert("insert ticket", err)
}

func (s *Store) Ticket(ctx context.Context, id string) (org.Ticket, error) {
	doc, err := findOne[ticketDoc](ctx, s.tickets, bson.D{{Key: "_id", Value: id}})
	return doc.ticket(), convert("find ticket", err)
}

func (s *Store) ReplaceTicket(ctx context.Context, seen, next org.Ticket) (bool, error) {
	res, err := s.tickets.ReplaceOne(ctx, bson.D{{Key: "_id", Value: seen.ID}, {Key: "hashes", Value: seen.Hashes}}, newTicketDoc(next))
	if err != nil {
		return false, convert("replace ticket", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) UnmailedTickets(ctx context.Context, before time.Time) ([]org.Ticket, error) {
	unmailed := bson.D{{Key: "mailed", Value: false}, {Key: "created_at", Value: bson.D{{Key: "$lte", Value: before}}}}
	return findAll(ctx, s.tickets, unmailed, ticketDoc.ticket)
}

func (s *Store) DeleteTicket(ctx context.Context, id string) error {
	_, err := s.tickets.DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	return convert("delete ticket", err)
}

func (s *Store) DeleteTickets(ctx context.Context, organizationID string) error {
	_, err := s.tickets.DeleteMany(ctx, bson.D{{Key: "organization_id", Value: objectID(organizationID)}})
	return convert("delete tickets", err)
}

func (s *Store) DeleteExpired(ctx context.Context, now time.Time) error {
	for _, c := range []*mongo.Collection{s.sessions, s.tickets, s.attempts, s.keys} {
		_, err := c.DeleteMany(ctx, bson.D{{Key: "expires_at", Value: bson.D{{Key: "$lt", Value: now}}}})
		if err != nil {
			return convert("delete expired "+c.Name(), err)
		}
	}
	return nil
}

func (s *Store) CountEvent(ctx context.Context, e org.Event) (org.Count, error) {
	c, err := s.countEvent(ctx, e)
	if err != nil && isDuplicateKey(err) { // another request has inserted the document at the same time
		c, err = s.countEvent(ctx, e)
	}
	return c, convert("count event", err)
}

// countEvent counts the event. It drops as many of the parts that are not needed as there
// can be: a document expires two windows after its last event, which has left those of
// one window before it.
func (s *Store) countEvent(ctx context.Context, e org.Event) (org.Count, error) {
	drop := bson.D{}
	for part := 3*e.Oldest - 2*e.Part - 2; part < e.Oldest; part++ {
		drop = append(drop, bson.E{Key: partField(part), Value: ""})
	}
	var doc countDoc
	err := s.attempts.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: e.Key}},
		bson.D{
			{Key: "$inc", Value: bson.D{{Key: partField(e.Part), Value: int64(1)}}},
			{Key: "$unset", Value: drop},
			{Key: "$set", Value: bson.D{{Key: "expires_at", Value: e.Expires}}},
		},
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&doc)
	return doc.count(), err
}

func partField(part int64) string { return "parts." + strconv.FormatInt(part, 10) }

func (s *Store) Count(ctx context.Context, key string) (org.Count, error) {
	doc, err := findOne[countDoc](ctx, s.attempts, bson.D{{Key: "_id", Value: key}})
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = nil
	}
	return doc.count(), convert("count", err)
}

func (s *Store) Remember(ctx context.Context, e org.Event) error {
	_, err := s.attempts.UpdateOne(ctx, bson.D{{Key: "_id", Value: e.Key}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "expires_at", Value: e.Expires}}}}, options.UpdateOne().SetUpsert(true))
	if err != nil && isDuplicateKey(err) {
		err = nil // another request does the same
	}
	return convert("remember", err)
}

func (s *Store) Known(ctx context.Context, key string, at time.Time) (bool, error) {
	_, err := findOne[countDoc](ctx, s.attempts, bson.D{{Key: "_id", Value: key}, {Key: "expires_at", Value: bson.D{{Key: "$gt", Value: at}}}})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return false, nil
	}
	return err == nil, convert("find known", err)
}

func (s *Store) TakeBackEvents(ctx context.Context, events []org.Event) error {
	var updates []mongo.WriteModel
	for _, e := range events {
		updates = append(updates, mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: e.Key}, {Key: partField(e.Part), Value: bson.D{{Key: "$gt", Value: 0}}}}).
			SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: partField(e.Part), Value: int64(-1)}}}}))
	}
	_, err := s.attempts.BulkWrite(ctx, updates)
	return convert("take back events", err)
}

func (s *Store) ForgetEvents(ctx context.Context, key string) error {
	_, err := s.attempts.DeleteOne(ctx, bson.D{{Key: "_id", Value: key}})
	return convert("forget events", err)
}

func (s *Store) Migrations(ctx context.Context) ([]org.Migration, error) {
	return findAll(ctx, s.migrations, bson.D{}, migrationDoc.migration)
}

func (s *Store) InsertMigration(ctx context.Context, m org.Migration) error {
	_, err := s.migrations.InsertOne(ctx, newMigrationDoc(m))
	if err != nil && isDuplicateKey(err) {
		return nil
	}
	return convert("insert migration", err)
}

func (s *Store) FinishMigration(ctx context.Context, m org.Migration) error {
	doc := newMigrationDoc(m)
	_, err := s.migrations.ReplaceOne(ctx, bson.D{{Key: "_id", Value: m.Number}}, doc, options.Replace().SetUpsert(true))
	return convert("finish migration", err)
}

func (s *Store) InsertReceipt(ctx context.Context, r org.Receipt) error {
	_, err := s.receipts.InsertOne(ctx, newReceiptDoc(r))
	if err != nil && isDuplicateKey(err) {
		return nil
	}
	return convert("insert receipt", err)
}

func (s *Store) Receipt(ctx context.Context, organizationID string) (org.Receipt, error) {
	if _, err := bson.ObjectIDFromHex(organizationID); err != nil {
		// No organization has this id.
		return org.Receipt{}, convert("find receipt", mongo.ErrNoDocuments)
	}
	doc, err := findOne[receiptDoc](ctx, s.receipts, bson.D{{Key: "_id", Value: objectID(organizationID)}})
	return doc.receipt(), convert("find receipt", err)
}

func (s *Store) InsertKey(ctx context.Context, k org.IdempotencyKey) (bool, error) {
	_, err := s.keys.InsertOne(ctx, newKeyDoc(k))
	if err != nil && isDuplicateKey(err) {
		return false, nil
	}
	return err == nil, convert("insert key", err)
}

func (s *Store) Key(ctx context.Context, id string) (org.IdempotencyKey, error) {
	doc, err := findOne[keyDoc](ctx, s.keys, bson.D{{Key: "_id", Value: id}})
	return doc.key(), convert("find key", err)
}

func (s *Store) ReplaceKey(ctx context.Context, seen, next org.IdempotencyKey) (bool, error) {
	res, err := s.keys.ReplaceOne(ctx, keyFilter(seen), newKeyDoc(next))
	if err != nil {
		return false, convert("replace key", err)
	}
	return res.MatchedCount == 1, nil
}

func (s *Store) FinishKey(ctx context.Context, id, change string, outcome org.Outcome) error {
	lacks := hasNoOutcome
	if len(outcome.Answer) > 0 {
		lacks.Key = "outcome.answer"
	}
	_, err := s.keys.UpdateOne(ctx,
		bson.D{{Key: "_id", Value: id}, {Key: "tries.change_id", Value: objectID(change)}, lacks},
		bson.D{{Key: "$set", Value: bson.D{{Key: "outcome", Value: newOutcomeDoc(outcome)}}}})
	return convert("finish key", err)
}

func (s *Store) DeleteKey(ctx context.Context, seen org.IdempotencyKey) error {
	_, err := s.keys.DeleteOne(ctx, keyFilter(seen))
	return convert("delete key", err)
}

var hasNoOutcome = bson.E{Key: "outcome", Value: bson.D{{Key: "$exists", Value: false}}}

// keyFilter matches the key as it was seen. If it had an outcome, it has expired.
func keyFilter(seen org.IdempotencyKey) bson.D {
	filter := bson.D{
		{Key: "_id", Value: seen.ID}, {Key: "claimed_at", Value: seen.ClaimedAt}, {Key: "expires_at", Value: seen.ExpiresAt},
		{Key: "tries", Value: bson.D{{Key: "$size", Value: len(seen.Tries)}}},
		{Key: "tries.change_id", Value: objectID(seen.Tries[len(seen.Tries)-1].Change)},
	}
	if seen.Outcome.At.IsZero() {
		filter = append(filter, hasNoOutcome)
	}
	return filter
}

func findOne[D any](ctx context.Context, c *mongo.Collection, filter bson.D) (D, error) {
	var doc D
	err := c.FindOne(ctx, filter).Decode(&doc)
	return doc, err
}

func findAll[D, T any](ctx context.Context, c *mongo.Collection, filter bson.D, turn func(D) T, more ...options.Lister[options.FindOptions]) ([]T, error) {
	cursor, err := c.Find(ctx, filter, more...)
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

// Clock returns the time that the server reports in its greeting.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	var hello struct {
		LocalTime time.Time `bson:"localTime"`
	}
	err := s.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	return hello.LocalTime, convert("read the clock", err)
}
